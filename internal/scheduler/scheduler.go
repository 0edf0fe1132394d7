package scheduler

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
)

// DefaultName is the scheduler that pods ask for when they name none.
const DefaultName = corev1.DefaultSchedulerName

// Config is what a scheduler needs. All fields but Name and Metrics are required.
type Config struct {
	Client client.Client
	Events *events.Recorder
	Logger *slog.Logger
	// Name is matched with pods' schedulerName; "" is DefaultName.
	Name string
	// Metrics is where the scheduler's are registered; nil is nowhere.
	Metrics prometheus.Registerer
}

// Bounds of what waits and of what is under way at a time.
const (
	changesQueued   = 1024
	effectsInFlight = 64
)

// Run schedules until ctx ends. It returns an error only if it cannot begin.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	m, err := newMetrics(cfg.Metrics, cfg.Name)
	if err != nil {
		return err
	}
	s := &scheduler{
		cfg: cfg, core: newCore(cfg.Name), metrics: m,
		changes: make(chan func(time.Time), changesQueued),
		effects: newEffects(cfg, m),
	}
	s.core.points = m.points
	g, ctx := errgroup.WithContext(ctx)
	if err := s.openFeeds(ctx); err != nil {
		return err
	}
	s.runFeeds(ctx, g)
	g.Go(func() error { return s.effects.run(ctx) })
	g.Go(func() error { return s.loop(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// scheduler is the shell around the core: one goroutine owns the core, the effects have theirs.
type scheduler struct {
	cfg     Config
	core    *core
	metrics *metrics
	changes chan func(now time.Time)
	effects *effects
	feeds   []*feed
	told    bool // what was there has been told: nothing is decided before
}

// send hands a change to the loop.
func (s *scheduler) send(ctx context.Context, change func(time.Time)) {
	select {
	case s.changes <- change:
	case <-ctx.Done():
	}
}

// loop takes in what has changed, decides about a pod, and so on.
func (s *scheduler) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.takeIn()
		if s.complete() && s.effects.room() {
			began := time.Now()
			if d, ok := s.core.next(began); ok {
				d.began = began
				s.metrics.decided(d, time.Since(began))
				s.effects.start(d)
				continue
			}
			s.metrics.sizes(s.core)
			if at, ok := s.core.queue.wakeAt(); ok {
				timer.Reset(time.Until(at))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change := <-s.changes:
			change(time.Now())
		case failed := <-s.effects.failed:
			s.core.unbind(failed, time.Now())
		case <-s.effects.freed:
		case <-timer.C:
		}
	}
}

// takeIn applies everything that has been told so far.
func (s *scheduler) takeIn() {
	for {
		select {
		case change := <-s.changes:
			change(time.Now())
		case failed := <-s.effects.failed:
			s.core.unbind(failed, time.Now())
		default:
			return
		}
	}
}
