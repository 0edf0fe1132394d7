package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"clipper.dev/clipper/internal/client"
)

// Overloaded servers answer 429 with Retry-After; a request is repeated that often before the caller hears of it.
const maxRetries = 10

// request is one call of the API.
type request struct {
	method, namespace, name, subresource string
	gvr                                  schema.GroupVersionResource
	query                                url.Values
	body                                 runtime.Object // encoded as the API wants it
	raw                                  []byte         // sent as it is, with contentType
	contentType                          string
}

func (r *request) path() string {
	p := "/apis/" + r.gvr.Group + "/" + r.gvr.Version
	if r.gvr.Group == "" {
		p = "/api/" + r.gvr.Version
	}
	if r.namespace != "" && r.gvr.Resource != "namespaces" {
		p += "/namespaces/" + url.PathEscape(r.namespace)
	}
	p += "/" + r.gvr.Resource
	if r.name != "" {
		p += "/" + url.PathEscape(r.name)
	}
	if r.subresource != "" {
		p += "/" + r.subresource
	}
	return p
}

func (r *request) verb() string {
	if r.name == "" && r.method == http.MethodGet {
		return "list"
	}
	return map[string]string{http.MethodGet: "get", http.MethodPost: "post", http.MethodPut: "put",
		http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.method]
}

// do sends a request and decodes the answer: the object, or the API error.
func (c *Client) do(ctx context.Context, r request) (runtime.Object, error) {
	var err error
	if r.body != nil {
		if r.raw, r.contentType, err = encode(r.body); err != nil {
			return nil, fmt.Errorf("encode %s: %w", r.gvr.Resource, err)
		}
	}
	accept := acceptFor(r.gvr)
	for attempt := 0; ; attempt++ {
		resp, err := c.send(ctx, r.method, r.path(), r.query, r.raw, r.contentType, accept)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path(), err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read the answer to %s %s: %w", r.method, r.path(), err)
		}
		c.cfg.Metrics.answered(resp, len(data))
		if delay, ok := retryAfter(resp); ok && attempt < maxRetries {
			c.cfg.Metrics.repeated(resp)
			if err := sleep(ctx, delay); err != nil {
				return nil, err
			}
			continue
		}
		if resp.StatusCode >= 400 {
			return nil, statusError(r, resp, data)
		}
		return decode(resp.Header.Get("Content-Type"), data)
	}
}

// send performs one HTTP exchange. A server that can't be reached makes the next one the current.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body []byte, contentType, accept string) (*http.Response, error) {
	rt, err := c.http.get()
	if err != nil {
		return nil, err
	}
	for tried := 1; ; tried++ {
		index := c.current.Load()
		u := *c.bases[int(index)%len(c.bases)]
		u.Path, _ = url.PathUnescape(u.Path + path)
		u.RawPath = c.bases[int(index)%len(c.bases)].EscapedPath() + path
		u.RawQuery = query.Encode()
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("User-Agent", c.cfg.UserAgent)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		if c.cfg.Token != nil {
			if token := c.cfg.Token(); token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
		}
		began := time.Now()
		resp, err := rt.RoundTrip(req)
		c.cfg.Metrics.exchanged(req, began, resp)
		if err == nil {
			return resp, nil
		}
		c.current.CompareAndSwap(index, index+1)
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "dial" || tried >= len(c.bases) || ctx.Err() != nil {
			return nil, err
		}
	}
}

func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
		return 0, false
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	return time.Duration(seconds) * time.Second, err == nil && seconds >= 0
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// statusError turns a failed answer into an API error: the server's own if it sent one.
func statusError(r request, resp *http.Response, data []byte) error {
	if obj, err := decode(resp.Header.Get("Content-Type"), data); err == nil {
		if status, ok := obj.(*metav1.Status); ok && status.Status != metav1.StatusSuccess {
			return apierrors.FromObject(status)
		}
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return apierrors.NewGenericServerResponse(resp.StatusCode, r.verb(), r.gvr.GroupResource(), r.name, string(data), seconds, true)
}

func parameters(opts runtime.Object) (url.Values, error) {
	return scheme.ParameterCodec.EncodeParameters(opts, schema.GroupVersion{Version: "v1"})
}

func asObject(obj runtime.Object, err error) (client.Object, error) {
	if err != nil {
		return nil, err
	}
	o, ok := obj.(client.Object)
	if !ok {
		return nil, fmt.Errorf("the server answered with a %T, which is no object with metadata", obj)
	}
	return o, nil
}
