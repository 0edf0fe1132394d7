package reviewer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Reviewer posts reviews to one server.
type Reviewer struct {
	url    string
	client *http.Client
}

// maxAnswerBytes bounds an answer.
const maxAnswerBytes = 1 << 20

// backoff is between tries: half a second, and half as much again each time.
var backoff = wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}

// Open reads a kubeconfig file.
func Open(path string, timeout time.Duration) (*Reviewer, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the webhook configuration %s: %w", path, err)
	}
	return New(config, timeout)
}

// New makes a reviewer of a client configuration, whose host is the full address to post to.
func New(config *rest.Config, timeout time.Duration) (*Reviewer, error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the webhook configuration of %s: %w", config.Host, err)
	}
	return &Reviewer{url: config.Host, client: &http.Client{Transport: transport, Timeout: timeout}}, nil
}

// Review posts a review and replaces it by the answer.
func (r *Reviewer) Review(ctx context.Context, review any) error {
	body, err := json.Marshal(review)
	if err != nil {
		return fmt.Errorf("encode a review: %w", err)
	}
	var last error
	err = wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		var retry bool
		retry, last = r.post(ctx, body, review)
		return last == nil || !retry, nil
	})
	if last != nil {
		return last
	}
	return err
}

// post makes one request; retry tells whether another may go better.
func (r *Reviewer) post(ctx context.Context, body []byte, into any) (retry bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	resp, err := r.client.Do(req)
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF), err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return true, fmt.Errorf("read the answer of %s: %w", r.url, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		passing := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusInternalServerError || resp.Header.Get("Retry-After") != ""
		return passing, fmt.Errorf("%s answered %s: %s", r.url, resp.Status, bytes.TrimSpace(data[:min(len(data), 1024)]))
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", r.url, err)
	}
	return false, nil
}
