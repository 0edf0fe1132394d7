package hook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// maxAnswer bounds what a webhook may answer.
const maxAnswer = 16 << 20

// maxTransports bounds the connections kept to different webhooks.
const maxTransports = 128

// Service names the Service in front of a webhook.
type Service struct {
	Namespace, Name, Path string
	Port                  int32
}

// Target is where a webhook is. One of URL and Service is set.
type Target struct {
	URL      string
	Service  *Service
	CABundle []byte
}

// Caller calls webhooks. Make it with New. Its methods may be called concurrently.
type Caller struct {
	resolver *Resolver
	dialer   net.Dialer

	mu         sync.Mutex
	transports map[transportKey]*http.Transport
}

type transportKey struct {
	bundle  [sha256.Size]byte
	service Service
}

// New returns a Caller that finds Services by the resolver.
func New(r *Resolver) *Caller {
	return &Caller{resolver: r, dialer: net.Dialer{Timeout: 10 * time.Second}, transports: map[transportKey]*http.Transport{}}
}

// Call posts in to a webhook and decodes its answer into out. A timeout of 0 leaves the time to ctx.
func (c *Caller) Call(ctx context.Context, t Target, timeout time.Duration, in, out Review) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	u, err := t.url()
	if err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
		u.RawQuery = "timeout=" + timeout.String()
	}
	transport, err := c.transport(t)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, */*")
	request.Header.Set("User-Agent", "kube-apiserver-admission")
	answer, err := (&http.Client{Transport: transport, CheckRedirect: noRedirects}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return decode(answer, in, out)
}

func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// decode reads an answer, which must be of the request's kind, with upstream's client's words for what is wrong with one.
func decode(answer *http.Response, in, out Review) error {
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(raw) > maxAnswer {
		return errors.New("the answer is too long")
	}
	if answer.StatusCode < 200 || answer.StatusCode > 206 {
		var status metav1.Status
		if json.Unmarshal(raw, &status) == nil && status.Status == metav1.StatusFailure && status.Kind == "Status" {
			return &apierrors.StatusError{ErrStatus: status}
		}
		text := "unknown"
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/") {
			text = string(raw)
		}
		return apierrors.NewGenericServerResponse(answer.StatusCode, answer.Request.Method, schema.GroupResource{}, "", text, 0, true)
	}
	if len(raw) == 0 {
		return fmt.Errorf("0-length response with status code: %d and content type: %s", answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return unreadable(raw, err)
	}
	return checkKind(in, out)
}

// unreadable words why an answer can't be read: upstream reads it as YAML, too, and complains of what comes of that.
func unreadable(raw []byte, err error) error {
	if converted, yamlErr := yaml.YAMLToJSON(raw); yamlErr == nil {
		var named struct {
			APIVersion string `json:"apiVersion,omitempty"`
			Kind       string `json:"kind,omitempty"`
		}
		err = cmp.Or(json.Unmarshal(converted, &named), err)
	}
	return fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
}

// Review is what webhooks are sent and answer with.
type Review interface {
	GroupVersionKind() schema.GroupVersionKind
}

// checkKind refuses an answer of a kind or a version that there is none of. One that doesn't say which it is of is let pass.
func checkKind(in, out Review) error {
	want, got := in.GroupVersionKind(), out.GroupVersionKind()
	if got.Kind == "" {
		got.Kind = want.Kind
	}
	if got.Version == "" {
		got.Group, got.Version = want.Group, want.Version
	}
	if got.GroupKind() != want.GroupKind() || got.Version != "v1" && got.Version != "v1beta1" {
		return runtime.NewNotRegisteredErrForKind("pkg/runtime/scheme.go:111", got)
	}
	return nil
}

func (t Target) url() (*url.URL, error) {
	if t.Service == nil {
		u, err := url.Parse(t.URL)
		if err != nil {
			return nil, fmt.Errorf("unparsable webhook URL: %w", err)
		}
		return u, nil
	}
	host := t.Service.host()
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(t.Service.Port))), Path: t.Service.Path}, nil
}

func (s *Service) host() string { return s.Name + "." + s.Namespace + ".svc" }

// transport returns what reaches a target, with the connections that are open.
func (c *Caller) transport(t Target) (*http.Transport, error) {
	key := transportKey{bundle: sha256.Sum256(t.CABundle)}
	if t.Service != nil {
		key.service = *t.Service
		key.service.Path = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.transports[key]; ok {
		return found, nil
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(t.CABundle) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(t.CABundle) {
			return nil, errors.New("unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	transport := &http.Transport{
		TLSClientConfig: tlsConfig, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		DialContext: c.dialer.DialContext,
	}
	if t.Service != nil {
		service := *t.Service
		tlsConfig.ServerName = service.host()
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			address, err := c.resolver.Resolve(service.Namespace, service.Name, service.Port)
			if err != nil {
				return nil, err
			}
			return c.dialer.DialContext(ctx, network, address)
		}
	}
	c.evict()
	c.transports[key] = transport
	return transport, nil
}

// evict makes room for one more transport. c.mu is held.
func (c *Caller) evict() {
	for key, transport := range c.transports {
		if len(c.transports) < maxTransports {
			return
		}
		transport.CloseIdleConnections()
		delete(c.transports, key)
	}
}
