package usage

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"clipper.dev/clipper/internal/api"
)

const (
	// fresh is how long the answer of one look is given again.
	fresh = 10 * time.Second
	// memory is how long a look is remembered for the next one to be compared with.
	memory = 2 * time.Minute
	// firstWindow is the time between the two looks that a first answer takes.
	firstWindow = time.Second
	// timeout bounds a look, parallel how many nodes are looked at at once, and maxBytes what a kubelet may say.
	timeout  = 10 * time.Second
	parallel = 32
	maxBytes = 32 << 20
)

// Reader looks at nodes. Make it with New.
type Reader struct {
	open func(ctx context.Context, node string) (io.ReadCloser, error)

	mu    sync.Mutex
	nodes map[string]*node
}

// node is what is remembered of one node.
type node struct {
	busy chan struct{} // holds a token while somebody looks

	// Guarded by busy.
	last   *look
	answer api.NodeUsage
	found  bool

	asked time.Time // guarded by Reader.mu
}

// New returns a reader. Open gets /metrics/resource of a node's kubelet.
func New(open func(ctx context.Context, node string) (io.ReadCloser, error)) *Reader {
	return &Reader{open: open, nodes: map[string]*node{}}
}

// Nodes returns the usage of nodes by name, without those that don't answer.
func (r *Reader) Nodes(ctx context.Context, names []string) map[string]api.NodeUsage {
	var mu sync.Mutex
	out := make(map[string]api.NodeUsage, len(names))
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, name := range names {
		g.Go(func() error {
			if used, ok := r.node(ctx, name); ok {
				mu.Lock()
				out[name] = used
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // a node that doesn't answer is missing: nothing fails
	return out
}

func (r *Reader) node(ctx context.Context, name string) (api.NodeUsage, bool) {
	n := r.remember(name)
	select {
	case n.busy <- struct{}{}:
	case <-ctx.Done():
		return api.NodeUsage{}, false
	}
	defer func() { <-n.busy }()
	if n.last != nil && time.Since(n.last.taken) < fresh {
		return n.answer, n.found
	}
	before := n.last
	n.last, n.found = nil, false
	if before == nil || time.Since(before.taken) > memory {
		first, err := r.look(ctx, name)
		if err != nil || !pause(ctx, firstWindow) {
			return api.NodeUsage{}, false
		}
		before = first
	}
	now, err := r.look(ctx, name)
	if err != nil {
		return api.NodeUsage{}, false
	}
	n.last = now
	n.answer, n.found = now.since(before)
	return n.answer, n.found
}

// remember returns what is known of a node, and forgets those that nobody has asked about for long.
func (r *Reader) remember(name string) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, n := range r.nodes {
		if other != name && time.Since(n.asked) > memory+timeout {
			delete(r.nodes, other)
		}
	}
	n := r.nodes[name]
	if n == nil {
		n = &node{busy: make(chan struct{}, 1)}
		r.nodes[name] = n
	}
	n.asked = time.Now()
	return n
}

func (r *Reader) look(ctx context.Context, name string) (*look, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := r.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return parse(io.LimitReader(body, maxBytes), time.Now())
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
