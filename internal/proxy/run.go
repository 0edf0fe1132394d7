package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/follow"
)

// retryAfter is how long the proxy waits before it tries again what the kernel refused.
const retryAfter = time.Second

// checkEvery is how often the proxy makes sure that nobody has taken its rules away.
const checkEvery = 30 * time.Second

// Config says for which node the proxy works.
type Config struct {
	NodeName string
	Backend  Backend
	// NodeLocal are cluster addresses that the node serves itself, as that of the cluster DNS. A
	// Service with such an address and without a selector is left alone.
	NodeLocal []netip.Addr
	// Metrics counts and times the proxy's work. Nil is no metrics.
	Metrics *Metrics
	Logger  *slog.Logger
}

// Run keeps the node's Services working until ctx ends. What is in effect then stays.
func Run(ctx context.Context, c client.Client, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &runner{
		Config:  cfg,
		model:   NewModel(cfg.NodeName, cfg.NodeLocal...),
		changed: make(chan struct{}, 1),
		health:  newHealthServer(cfg.Logger),
		since:   time.Now(),
		slices:  map[types.NamespacedName]trigger{},
	}
	cfg.Metrics.follow(r.model)
	g, ctx := errgroup.WithContext(ctx)
	followers, err := r.watch(ctx, g, c)
	if err != nil {
		return err
	}
	g.Go(func() error { return r.loop(ctx, followers) })
	err = g.Wait()
	r.health.close()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// runner is one Run.
type runner struct {
	Config
	model   *Model
	changed chan struct{} // holds a token while there may be something to take from the model
	health  *healthServer
	synced  bool // the last sync put everything into effect

	since  time.Time // changes before it are not the proxy's to be quick about
	mu     sync.Mutex
	slices map[types.NamespacedName]trigger // not in effect yet, with what their controller says began their change
}

// trigger is when something changed that a slice tells of.
type trigger struct {
	at   time.Time
	ipv6 bool
}

func (r *runner) wake() {
	r.Metrics.woken()
	select {
	case r.changed <- struct{}{}:
	default: // a token that is there already stands for this change too
	}
}

// watch feeds the model.
func (r *runner) watch(ctx context.Context, g *errgroup.Group, c client.Client) ([]*follow.Follower, error) {
	services, err := c.View(ctx, client.Services.GVR, client.Selection{})
	if err != nil {
		return nil, fmt.Errorf("watch services: %w", err)
	}
	slices, err := c.View(ctx, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), client.Selection{})
	if err != nil {
		return nil, fmt.Errorf("watch endpoint slices: %w", err)
	}
	node, err := c.View(ctx, client.Nodes.GVR, client.Selection{Name: r.NodeName})
	if err != nil {
		return nil, fmt.Errorf("watch node %s: %w", r.NodeName, err)
	}
	start := func(v client.View, fn func(client.Change)) *follow.Follower {
		f := follow.New(v, func(change client.Change) {
			fn(change)
			r.wake()
		})
		g.Go(func() error { return f.Run(ctx) })
		return f
	}
	followers := []*follow.Follower{start(services, r.serviceChanged), start(slices, r.sliceChanged)}
	start(node, func(change client.Change) {
		if change.New != nil {
			r.model.SetNodeLabels(change.New.Labels())
		}
	})
	return followers, nil
}

func (r *runner) serviceChanged(change client.Change) {
	r.Metrics.serviceChange()
	if change.New == nil {
		r.model.DeleteService(change.Old.Namespace(), change.Old.Name())
		return
	}
	if s, ok := change.New.Object().(*corev1.Service); ok {
		r.model.SetService(s)
	}
}

func (r *runner) sliceChanged(change client.Change) {
	if change.New != nil {
		if _, headless := change.New.Labels()[corev1.IsHeadlessService]; headless {
			return
		}
	}
	r.Metrics.endpointChange()
	if change.Old != nil && (change.New == nil || change.New.Labels()[discoveryv1.LabelServiceName] != change.Old.Labels()[discoveryv1.LabelServiceName]) {
		r.model.DeleteSlice(change.Old.Namespace(), change.Old.Labels()[discoveryv1.LabelServiceName], change.Old.Name())
	}
	if change.New == nil {
		r.untriggered(types.NamespacedName{Namespace: change.Old.Namespace(), Name: change.Old.Name()})
		return
	}
	if s, ok := change.New.Object().(*discoveryv1.EndpointSlice); ok {
		r.model.SetSlice(s)
		r.triggered(s)
	}
}

// triggered remembers when the change began that a slice brings.
func (r *runner) triggered(s *discoveryv1.EndpointSlice) {
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil || at.Before(r.since) {
		return
	}
	r.remember(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, trigger{at, s.AddressType == discoveryv1.AddressTypeIPv6})
}

// untriggered is for a slice that is gone: what it said was of its last change, not of its end.
func (r *runner) untriggered(slice types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.slices, slice)
}

func (r *runner) remember(slice types.NamespacedName, t trigger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, waits := r.slices[slice]; !waits || t.at.Before(first.at) {
		r.slices[slice] = t
	}
}

// takeTriggers returns what the next sync puts into effect.
func (r *runner) takeTriggers() map[types.NamespacedName]trigger {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.slices) == 0 {
		return nil
	}
	out := r.slices
	r.slices = map[types.NamespacedName]trigger{}
	return out
}

// loop syncs the backend with the model. What changes during one Sync is in the next: under load they grow
// rather than pile up, and a lone change is in effect at once.
func (r *runner) loop(ctx context.Context, followers []*follow.Follower) error {
	// A Sync with half of the objects would take away what an earlier process had in effect.
	if err := follow.Complete(ctx, followers...); err != nil {
		return err
	}
	r.wake()
	retry := time.NewTimer(0)
	retry.Stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.changed:
		case <-retry.C:
		case <-check.C:
		}
		if err := r.sync(ctx); err != nil {
			r.Logger.Error("Could not sync services; trying again", "error", err, "after", retryAfter)
			retry.Reset(retryAfter)
		}
	}
}

func (r *runner) sync(ctx context.Context) error {
	began := time.Now()
	r.Metrics.taken()
	triggers := r.takeTriggers()
	changes := r.model.Take()
	err := r.Backend.Sync(ctx, changes)
	r.Metrics.synced(time.Since(began), !r.synced, err)
	r.synced = err == nil
	if err != nil {
		for slice, t := range triggers {
			r.remember(slice, t)
		}
		return err
	}
	for _, t := range triggers {
		r.Metrics.programmed(t.ipv6, time.Since(t.at))
	}
	r.Logger.Debug("Synced services", "changes", len(changes), "took", time.Since(began))
	r.health.set(ctx, r.model.HealthChecks())
	return CleanConntrack(changes, r.Metrics)
}
