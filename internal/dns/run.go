package dns

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/follow"
)

// Run serves DNS until ctx ends. Questions about names outside of the cluster are answered from the first moment,
// those about the cluster as soon as all its Services are known.
func Run(ctx context.Context, c client.Client, cfg Config) error {
	cfg.complete()
	zone := NewZone(cfg.Domain, cfg.hosts())
	server, err := Listen(ctx, cfg, zone)
	if err != nil {
		return err
	}
	services, err := c.View(ctx, client.Services.GVR, client.Selection{})
	if err != nil {
		server.close()
		return fmt.Errorf("watch services: %w", err)
	}
	slices, err := c.View(ctx, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), client.Selection{})
	if err != nil {
		server.close()
		return fmt.Errorf("watch endpoint slices: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	serviceFollower := follow.New(services, zone.serviceChanged)
	sliceFollower := follow.New(slices, zone.sliceChanged)
	g.Go(func() error { return server.Serve(ctx) })
	g.Go(func() error { return serviceFollower.Run(ctx) })
	g.Go(func() error { return sliceFollower.Run(ctx) })
	g.Go(func() error {
		if err := follow.Complete(ctx, serviceFollower, sliceFollower); err != nil {
			return err
		}
		zone.SetReady()
		return nil
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (z *Zone) serviceChanged(change client.Change) {
	if change.New == nil {
		z.DeleteService(change.Old.Namespace(), change.Old.Name())
		return
	}
	if s, ok := change.New.Object().(*corev1.Service); ok {
		z.SetService(s)
	}
}

func (z *Zone) sliceChanged(change client.Change) {
	owner := func(i client.Item) string { return i.Labels()[discoveryv1.LabelServiceName] }
	if change.Old != nil && (change.New == nil || owner(change.New) != owner(change.Old)) {
		z.DeleteSlice(change.Old.Namespace(), owner(change.Old), change.Old.Name())
	}
	if change.New == nil {
		return
	}
	if s, ok := change.New.Object().(*discoveryv1.EndpointSlice); ok {
		z.SetSlice(s)
	}
}
