package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
)

// DefaultName is the scheduler that pods ask for when they name none.
const DefaultName = corev1.DefaultSchedulerName

// Config is what a scheduler needs. All fields but Name are required.
type Config struct {
	Client client.Client
	Events *events.Recorder
	Logger *slog.Logger
	// Name is matched with pods' schedulerName; "" is DefaultName.
	Name string
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
	nodes, err := client.Nodes.View(ctx, cfg.Client, client.Selection{})
	if err != nil {
		return fmt.Errorf("view nodes: %w", err)
	}
	pods, err := client.Pods.View(ctx, cfg.Client, client.Selection{})
	if err != nil {
		return fmt.Errorf("view pods: %w", err)
	}
	for _, v := range []client.View{nodes.View, pods.View} {
		if err := v.WaitFor(ctx, 0); err != nil {
			return err
		}
	}
	s := &scheduler{
		cfg: cfg, core: newCore(cfg.Name),
		changes:     make(chan func(time.Time), changesQueued),
		effects:     newEffects(cfg),
		nodesToCome: len(nodes.View.Items("", nil)), podsToCome: len(pods.View.Items("", nil)),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return nodes.Subscribe(ctx, func(old, new *corev1.Node) { s.tell(ctx, s.nodeChange(old, new)) })
	})
	g.Go(func() error {
		return pods.Subscribe(ctx, func(old, new *corev1.Pod) { s.tell(ctx, s.podChange(old, new)) })
	})
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
	changes chan func(now time.Time)
	effects *effects
	// What was there already and is still to be told: nothing is decided before.
	nodesToCome, podsToCome int
}

func (s *scheduler) tell(ctx context.Context, change func(time.Time)) {
	select {
	case s.changes <- change:
	case <-ctx.Done():
	}
}

func (s *scheduler) nodeChange(old, new *corev1.Node) func(time.Time) {
	return func(now time.Time) {
		s.nodesToCome--
		if new == nil {
			s.core.removeNode(old.Name, now)
			return
		}
		s.core.setNode(new, now)
	}
}

func (s *scheduler) podChange(old, new *corev1.Pod) func(time.Time) {
	return func(now time.Time) {
		s.podsToCome--
		if old != nil && (new == nil || new.UID != old.UID) {
			s.core.removePod(old.UID, now)
		}
		if new != nil {
			s.core.setPod(new, now)
		}
	}
}

// loop takes in what has changed, decides about a pod, and so on.
func (s *scheduler) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.takeIn()
		if s.nodesToCome <= 0 && s.podsToCome <= 0 && s.effects.room() {
			if d, ok := s.core.next(time.Now()); ok {
				s.effects.start(d)
				continue
			}
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
