package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/store"
)

const defaultWorkers = 5

var errLostLeadership = errors.New("leadership was lost")

// Options say where and as whom the controllers run.
type Options struct {
	// Client returns a client that acts as a user.
	Client func(user string) client.Client
	// Elector decides where the controllers run that are not Everywhere; nil is here.
	Elector Elector
	// Metrics may be nil.
	Metrics *Metrics
	// Registerer takes controllers' own metrics; nil is nowhere.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	// Ready, if not nil, is called with the graph each time that a set of controllers has begun to work.
	Ready func(Graph)
}

// Run runs controllers until ctx ends, which is no error, or until one of them can't be made. It returns when all their work has ended.
func Run(ctx context.Context, o Options, constructors []Constructor) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var everywhere, leading []Constructor
	for _, c := range constructors {
		if c.Everywhere {
			everywhere = append(everywhere, c)
			continue
		}
		leading = append(leading, c)
	}
	g, ctx := errgroup.WithContext(ctx)
	if len(everywhere) > 0 {
		g.Go(func() error { return o.run(ctx, everywhere) })
	}
	if len(leading) > 0 {
		g.Go(func() error { return o.lead(ctx, leading) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// lead runs controllers for one term of leadership after the other.
func (o *Options) lead(ctx context.Context, constructors []Constructor) error {
	if o.Elector == nil {
		return o.run(ctx, constructors)
	}
	for ctx.Err() == nil {
		term, err := o.Elector.Campaign(ctx)
		if err != nil {
			return fmt.Errorf("become the leader: %w", err)
		}
		o.Logger.Info("leading: the controllers run here")
		if err := o.term(ctx, term, constructors); err != nil && !errors.Is(err, errLostLeadership) {
			return err
		}
	}
	return ctx.Err()
}

// term runs controllers for as long as the leadership lasts, and returns when all of their work has ended.
func (o *Options) term(ctx context.Context, term Term, constructors []Constructor) error {
	ctx, cancel := context.WithCancelCause(store.WithFence(ctx, term.Fence()))
	defer cancel(nil)
	o.Metrics.leading(1)
	defer o.Metrics.leading(0)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-term.Lost():
			o.Logger.Warn("leadership was lost: the controllers stop here")
			cancel(errLostLeadership)
		}
	}()
	err := o.run(ctx, constructors)
	if errors.Is(context.Cause(ctx), errLostLeadership) {
		err = errLostLeadership
	}
	cancel(nil)
	<-watched
	// What is given up here is free for others at once; the fence keeps late writes out.
	if rerr := term.Release(context.WithoutCancel(ctx)); rerr != nil && !errors.Is(err, errLostLeadership) {
		o.Logger.Warn("give up leadership", "err", rerr)
	}
	return err
}

// run makes controllers and runs them until ctx ends or one of them fails.
func (o *Options) run(ctx context.Context, constructors []Constructor) error {
	g, ctx := errgroup.WithContext(ctx)
	var graph Graph
	for _, con := range constructors {
		user := con.User
		if user == "" {
			user = "system:serviceaccount:kube-system:" + con.Name + "-controller"
		}
		log := o.Logger.With("controller", con.Name)
		c := o.Client(user)
		if missing := unserved(ctx, c, con.Needs); missing != "" {
			log.Warn("not started: the API doesn't serve what it needs", "resource", missing)
			continue
		}
		env := Env{Client: naming{c}, Logger: log, Events: recorders(ctx, g, c, log), Registerer: o.Registerer}
		ctl, err := con.New(ctx, env)
		if err != nil {
			err = fmt.Errorf("make the %s controller: %w", con.Name, err)
			g.Go(func() error { return err })
			break
		}
		graph = append(graph, nodeOf(ctl))
		w := &worker{Controller: ctl, log: log, written: map[Key]int64{}}
		g.Go(func() error { return w.run(ctx, o.Metrics) })
	}
	if o.Ready != nil && ctx.Err() == nil {
		o.Ready(graph)
	}
	return g.Wait()
}

// unserved names a resource that is needed and not served, if there is one.
func unserved(ctx context.Context, c client.Client, needs []schema.GroupVersionResource) string {
	if len(needs) == 0 {
		return ""
	}
	served := map[schema.GroupResource]bool{}
	for _, kind := range c.Kinds(ctx, nil) {
		served[kind.GroupVersionResource.GroupResource()] = true
	}
	for _, gvr := range needs {
		if !served[gvr.GroupResource()] {
			return gvr.GroupResource().String()
		}
	}
	return ""
}

// recorders returns Env.Events: one recorder for each component, run by the group.
func recorders(ctx context.Context, g *errgroup.Group, c client.Client, log *slog.Logger) func(string) *events.Recorder {
	var mu sync.Mutex
	made := map[string]*events.Recorder{}
	return func(component string) *events.Recorder {
		mu.Lock()
		defer mu.Unlock()
		if r := made[component]; r != nil {
			return r
		}
		r := events.New(events.Config{Client: c, Component: component, Logger: log})
		made[component] = r
		g.Go(func() error {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("record events as %s: %w", component, err)
			}
			return ctx.Err()
		})
		return r
	}
}
