package apiserver

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/apiserver/fairness"
)

// A call is what the engine knows of one request besides its operation. It travels in the context.
type call struct {
	user     api.UserInfo
	agent    string // User-Agent, for the field manager
	verb     string
	internal bool             // made inside the process
	ticket   *fairness.Ticket // of the request's seat; nil inside the process

	record   *audit.Record  // of the request, if it is audited
	status   *metav1.Status // that was sent, if one was
	keepBody bool           // the audit wants the request's body
	body     []byte         // as received, if kept
	bodyType string

	spent    spent // where its time went
	received int   // bytes of its body
	read     bool  // its body was read

	mu          sync.Mutex
	warnings    warnings
	annotations map[string]string
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf returns the context's call, or an empty one.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// warn adds Warning headers, each text once.
func (c *call) warn(texts ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range texts {
		c.warnings.add(text)
	}
}

func (c *call) annotate(all map[string]string) {
	if len(all) == 0 {
		return
	}
	if c.record != nil {
		c.record.Annotate(all)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.annotations == nil {
		c.annotations = map[string]string{}
	}
	for k, v := range all {
		c.annotations[k] = v
	}
}

// Warn and Annotate implement authn.Notes.
func (c *call) Warn(text string)           { c.warn(text) }
func (c *call) Annotate(key, value string) { c.annotate(map[string]string{key: value}) }

// takeAnnotations returns the annotations that nobody has taken yet.
func (c *call) takeAnnotations() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.annotations
	c.annotations = nil
	return out
}

func (c *call) takeWarnings() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.warnings.shown
	c.warnings = warnings{}
	return out
}

// User returns who makes the request that ctx belongs to.
func User(ctx context.Context) api.UserInfo { return callOf(ctx).user }
