package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	webhookTimeout  = 30 * time.Second
	webhookAttempts = 5
	// closingTime is how long events that are left are tried to be sent at the end.
	closingTime = 5 * time.Second
)

// A webhook sends events to a server, as an EventList.
type webhook struct {
	client  *http.Client
	url     string
	backoff time.Duration
	trouble *trouble
	ctx     context.Context // ends when the auditor closes, a little after
	cancel  context.CancelFunc
}

func newWebhook(o WebhookOptions, t *trouble) (*webhook, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.ConfigFile}, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the audit webhook's configuration %s: %w", o.ConfigFile, err)
	}
	cfg.Timeout = webhookTimeout
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("audit webhook %s: %w", o.ConfigFile, err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("audit webhook %s: %w", o.ConfigFile, err)
	}
	// The server may stand for a whole path and query.
	if u, err := url.Parse(cfg.Host); err == nil && u.Host != "" {
		base = u
	}
	w := &webhook{client: client, url: base.String(), backoff: o.InitialBackoff, trouble: t}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

func (*webhook) name() string { return "webhook" }

func (w *webhook) process(events ...*auditv1.Event) error {
	list := auditv1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: auditv1.SchemeGroupVersion.String()}, Items: make([]auditv1.Event, len(events))}
	for i, e := range events {
		list.Items[i] = *e
		list.Items[i].TypeMeta = metav1.TypeMeta{} // the list's says it
	}
	body, err := json.Marshal(list)
	if err == nil {
		err = w.deliver(body)
	}
	if err != nil {
		return w.trouble.lost(w.name(), err, events...)
	}
	return nil
}

// deliver posts a list until it is taken, some times, each time after a longer wait.
func (w *webhook) deliver(body []byte) error {
	wait := w.backoff
	var err error
	for attempt := range webhookAttempts {
		if attempt > 0 {
			pause := time.NewTimer(wait + time.Duration(rand.Float64()*0.2*float64(wait)))
			select {
			case <-pause.C:
			case <-w.ctx.Done():
				pause.Stop()
				return err
			}
			wait = wait * 3 / 2
		}
		if err = w.post(body); err == nil {
			return nil
		}
	}
	return err
}

func (w *webhook) post(body []byte) error {
	r, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, */*")
	answer, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("post audit events to %s: %s: %s", w.url, answer.Status, text)
	}
	return err
}

// hurry gives what is under way a little time.
func (w *webhook) hurry() { time.AfterFunc(closingTime, w.cancel) }

func (w *webhook) close() error {
	w.cancel()
	w.client.CloseIdleConnections()
	return nil
}
