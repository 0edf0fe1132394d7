package fairness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"clipper.dev/clipper/internal/client"
)

var (
	schemas = client.Kind[*flowcontrolv1.FlowSchema]{GVR: flowcontrolv1.SchemeGroupVersion.WithResource("flowschemas")}
	levels  = client.Kind[*flowcontrolv1.PriorityLevelConfiguration]{GVR: flowcontrolv1.SchemeGroupVersion.WithResource("prioritylevelconfigurations")}
)

const (
	// adjustEvery is how often levels lend and borrow anew.
	adjustEvery = 10 * time.Second
	// maintainEvery is how often the objects of every cluster are made sure of.
	maintainEvery = time.Minute
	// firstRetry and lastRetry bound the wait after a failure to write a condition.
	firstRetry, lastRetry = 200 * time.Millisecond, time.Minute
)

// Run keeps to the configuration, and keeps the objects that every cluster has, which Ensure has made, until ctx ends. The client acts
// for the engine.
func (c *Controller) Run(ctx context.Context, cl client.Client, o Objects) error {
	schemaView, err := cl.View(ctx, schemas.GVR, client.Selection{})
	if err != nil {
		return fmt.Errorf("follow flow schemas: %w", err)
	}
	levelView, err := cl.View(ctx, levels.GVR, client.Selection{})
	if err != nil {
		return fmt.Errorf("follow priority levels: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, v := range []client.View{schemaView, levelView} {
		g.Go(func() error {
			if err := v.WaitFor(ctx, 0); err != nil {
				return err
			}
			return v.Subscribe(ctx, func(client.Change) { c.notify() })
		})
	}
	g.Go(func() error { return c.maintain(ctx, cl, o) })
	g.Go(func() error {
		for _, v := range []client.View{schemaView, levelView} {
			if err := v.WaitFor(ctx, 0); err != nil {
				return err
			}
		}
		return c.loop(ctx, cl, schemaView, levelView)
	})
	return g.Wait()
}

func (c *Controller) notify() {
	select {
	case c.changed <- struct{}{}:
	default: // it is known already
	}
}

// loop digests each configuration and adjusts the limits.
func (c *Controller) loop(ctx context.Context, cl client.Client, schemaView, levelView client.View) error {
	adjust := time.NewTicker(adjustEvery)
	defer adjust.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	retry := firstRetry
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-adjust.C:
			c.adjust()
			continue
		case <-c.changed:
		case <-again.C:
		}
		conditions := c.digest(objectsOf[*flowcontrolv1.PriorityLevelConfiguration](levelView), objectsOf[*flowcontrolv1.FlowSchema](schemaView))
		wait, err := c.write(ctx, cl, conditions)
		switch {
		case err != nil && ctx.Err() == nil:
			c.cfg.Logger.Warn("the condition of a flow schema could not be written", "error", err)
			again.Reset(retry)
			retry = min(2*retry, lastRetry)
		case wait > 0:
			again.Reset(wait)
		default:
			retry = firstRetry
		}
	}
}

func objectsOf[T client.Object](v client.View) []T {
	all := v.List("", nil)
	out := make([]T, len(all))
	for i, o := range all {
		out[i] = o.(T)
	}
	return out
}

// maintain makes sure of the objects of every cluster from time to time.
func (c *Controller) maintain(ctx context.Context, cl client.Client, o Objects) error {
	timer := time.NewTimer(maintainEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if err := Ensure(ctx, cl, o); err != nil && !errors.Is(err, context.Canceled) {
			c.cfg.Logger.Warn("the priority and fairness objects of every cluster could not be made sure of", "error", err)
		}
		timer.Reset(maintainEvery + rand.N(maintainEvery/4))
	}
}
