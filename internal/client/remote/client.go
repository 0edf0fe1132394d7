package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// Config says where the API is and who asks.
type Config struct {
	// Servers are the base URLs of the cluster's API servers. One is used until it can't be reached, then the next.
	Servers []string
	// RootCAs verify the servers.
	RootCAs *x509.CertPool
	// ServerName overrides the name that the servers' certificates are checked for.
	ServerName string
	// Certificate returns the certificate to present, nil for none. It is asked before each request, so it must be cheap;
	// another certificate than before makes new connections. See FileCertificate.
	Certificate func() (*tls.Certificate, error)
	// Token returns a bearer token to send, if set and not empty.
	Token func() string
	// UserAgent is sent with each request; empty is "clipper".
	UserAgent string
	Metrics   *Metrics
	Logger    *slog.Logger
}

// Client speaks to the API over HTTPS. It implements client.Client.
type Client struct {
	cfg     Config
	bases   []*url.URL
	current atomic.Uint32 // index into bases, modulo its length
	http    transport
	views   sync.WaitGroup
}

var _ client.Client = (*Client)(nil)

// New returns a client. It connects on first use.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("remote client: no server given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "clipper"
	}
	c := &Client{cfg: cfg}
	c.http.cfg = cfg
	for _, s := range cfg.Servers {
		u, err := url.Parse(strings.TrimSuffix(s, "/"))
		if err != nil {
			return nil, err
		}
		c.bases = append(c.bases, u)
	}
	return c, nil
}

// Wait blocks until all views have stopped, which they do when their contexts end, and closes the idle connections.
func (c *Client) Wait() {
	c.views.Wait()
	c.http.closeIdle()
}

// Get reads one object, as fresh as a linearizable read.
func (c *Client) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (client.Object, error) {
	return asObject(c.do(ctx, request{method: http.MethodGet, gvr: gvr, namespace: namespace, name: name}))
}

// List reads the objects of a namespace ("" is all) that the selector (nil is all) accepts.
func (c *Client) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, selector labels.Selector) ([]client.Object, error) {
	query := url.Values{}
	if selector != nil && !selector.Empty() {
		query.Set("labelSelector", selector.String())
	}
	list, err := c.do(ctx, request{method: http.MethodGet, gvr: gvr, namespace: namespace, query: query})
	if err != nil {
		return nil, err
	}
	return listItems(list)
}

// Create stores a new object and returns it as stored.
func (c *Client) Create(ctx context.Context, gvr schema.GroupVersionResource, obj client.Object, opts metav1.CreateOptions) (client.Object, error) {
	query, err := parameters(&opts)
	if err != nil {
		return nil, err
	}
	return asObject(c.do(ctx, request{method: http.MethodPost, gvr: gvr, namespace: obj.GetNamespace(), query: query, body: obj}))
}

// Update writes the object, or one of its subresources.
func (c *Client) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj client.Object, opts metav1.UpdateOptions) (client.Object, error) {
	query, err := parameters(&opts)
	if err != nil {
		return nil, err
	}
	return asObject(c.do(ctx, request{method: http.MethodPut, gvr: gvr, namespace: obj.GetNamespace(), name: obj.GetName(),
		subresource: subresource, query: query, body: obj}))
}

// Delete deletes an object.
func (c *Client) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, gvr: gvr, namespace: namespace, name: name, body: &opts})
	return err
}

// DeleteCollection deletes what the list options select.
func (c *Client) DeleteCollection(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.DeleteOptions, list metav1.ListOptions) error {
	query, err := parameters(&list)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, request{method: http.MethodDelete, gvr: gvr, namespace: namespace, query: query, body: &opts})
	return err
}

// CreateSub posts to a subresource.
func (c *Client) CreateSub(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, body runtime.Object, opts metav1.CreateOptions) (runtime.Object, error) {
	query, err := parameters(&opts)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, request{method: http.MethodPost, gvr: gvr, namespace: namespace, name: name, subresource: subresource, query: query, body: body})
}

// Patch applies a patch to an object or, if subresource is not empty, to that.
func (c *Client) Patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (client.Object, error) {
	query, err := parameters(&opts)
	if err != nil {
		return nil, err
	}
	return asObject(c.do(ctx, request{method: http.MethodPatch, gvr: gvr, namespace: namespace, name: name, subresource: subresource,
		query: query, raw: data, contentType: string(pt)}))
}

// View opens a live set of objects: one watch stream that lasts until ctx ends.
func (c *Client) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	v := newView(gvr)
	s := &stream{client: c, view: v, gvr: gvr, sel: sel, log: c.cfg.Logger.With("resource", gvr.Resource)}
	c.views.Go(func() { s.run(ctx) })
	return v, nil
}
