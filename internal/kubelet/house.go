package kubelet

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/logs"
	"clipper.dev/clipper/internal/kubelet/node"
)

const (
	imageInterval  = 5 * time.Minute
	orphanInterval = 2 * time.Minute
)

// keepHouse rotates logs, removes unused images and looks for what was left behind, until ctx ends.
func (k *Kubelet) keepHouse(ctx context.Context) error {
	rotate, collect, orphans := time.NewTicker(k.cfg.Settings.ContainerLogMonitorInterval.Duration), time.NewTicker(imageInterval), time.NewTicker(orphanInterval)
	defer rotate.Stop()
	defer collect.Stop()
	defer orphans.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rotate.C:
			k.rotateLogs(ctx)
		case <-collect.C:
			if err := k.collector.Collect(ctx); err != nil && ctx.Err() == nil {
				k.logger.Warn("images not collected", "error", err)
				k.events.Event(node.Reference(k.cfg.NodeName), corev1.EventTypeWarning, "ImageGCFailed", err.Error())
			}
		case <-orphans.C:
			if k.sourcesReady.Load() {
				k.adoptOrphans(ctx)
			}
			k.logLinks.sweep()
		}
	}
}

// rotateLogs keeps the logs of running containers within bounds.
func (k *Kubelet) rotateLogs(ctx context.Context) {
	r := logs.Rotator{
		MaxSize: k.cfg.parsed.logMaxSize, MaxFiles: int(*k.cfg.Settings.ContainerLogMaxFiles), Now: time.Now,
		Reopen: func(ctx context.Context, id string) error {
			_, err := k.cri.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
			return err
		},
	}
	var g errgroup.Group
	g.SetLimit(int(*k.cfg.Settings.ContainerLogMaxWorkers))
	for _, pod := range k.pods.list() {
		if pod.Observed == nil || pod.Stopped {
			continue
		}
		for i := range pod.Observed.Containers {
			c := &pod.Observed.Containers[i]
			if c.State != lifecycle.Running || c.LogPath == "" {
				continue
			}
			g.Go(func() error {
				if err := r.Rotate(ctx, c.ID, c.LogPath); err != nil && ctx.Err() == nil {
					k.logger.Warn("log not rotated", "pod", pod.Pod.Namespace+"/"+pod.Pod.Name, "container", c.Name, "error", err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // each has told of its error
}
