package kubelet

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"clipper.dev/clipper/internal/kubelet/plugins"
	"clipper.dev/clipper/internal/kubelet/volumes"
	"clipper.dev/clipper/internal/kubelet/volumes/csi"
	"clipper.dev/clipper/internal/kubelet/volumes/iscsi"
)

// openVolumes makes what mounts volumes.
func (k *Kubelet) openVolumes() (err error) {
	host := (*volumeHost)(k)
	k.attach = &attachWait{}
	k.csi, err = csi.New(csi.Config{
		Root: k.cfg.RootDir, NodeName: k.cfg.NodeName, Client: k.cfg.Client, Host: host, Token: k.tokens.status,
		Attached: k.attach.wait, UseChanged: k.checkNode, Events: k.events, Metrics: csi.NewMetrics(k.metrics.registry), Logger: k.logger,
	})
	if err != nil {
		return err
	}
	disks := iscsi.New(iscsi.Config{Root: k.cfg.RootDir, Host: host, Logger: k.logger})
	k.volumes, err = volumes.New(volumes.Config{
		Root: k.cfg.RootDir, LocalDir: k.cfg.LocalVolumeDir, Further: []volumes.Plugin{k.csi, disks}, Host: host, Metrics: volumes.NewMetrics(k.metrics.registry), Logger: k.logger,
	})
	return err
}

func (k *Kubelet) checkNode() {
	if k.node != nil {
		k.node.Check()
	}
}

// registryDir is where plugins put their sockets.
const registryDir = "plugins_registry"

// followPlugins registers the node's plugins until ctx ends.
func (k *Kubelet) followPlugins(ctx context.Context) error {
	if err := k.attach.registered(ctx); err != nil {
		return nil // the kubelet ends
	}
	if err := k.csi.Start(ctx); err != nil && ctx.Err() == nil {
		k.logger.Warn("CSINode not made: the first driver makes it", "error", err)
	}
	dir := filepath.Join(k.cfg.RootDir, registryDir)
	changes, stop, err := watchDir(dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM, nil)
	if err != nil {
		return err
	}
	defer stop()
	registry := plugins.New(plugins.Config{
		Dir: dir, Handlers: map[string]plugins.Handler{registerapi.CSIPlugin: k.csi, registerapi.DRAPlugin: k.dra, registerapi.DevicePlugin: k.resources.Plugins()},
		Logger: k.logger,
	})
	k.metrics.registry.MustRegister(registry)
	return registry.Run(ctx, changes)
}

// attachPatience is how long a pod's start waits at a time for a volume to be attached.
const attachPatience = 2 * time.Minute

// attachWait lets volumes wait for what the Node's status says of them.
type attachWait struct {
	mu   sync.Mutex
	node *corev1.Node
	next chan struct{} // closed with the next change; nil if nobody waits
}

// changed takes in the Node object.
func (a *attachWait) changed(node *corev1.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.node = node
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
}

// until waits for a Node object for which ok holds.
func (a *attachWait) until(ctx context.Context, ok func(*corev1.Node) bool) error {
	for {
		a.mu.Lock()
		if a.node != nil && ok(a.node) {
			a.mu.Unlock()
			return nil
		}
		if a.next == nil {
			a.next = make(chan struct{})
		}
		next := a.next
		a.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// registered waits for the Node object.
func (a *attachWait) registered(ctx context.Context) error {
	return a.until(ctx, func(*corev1.Node) bool { return true })
}

// wait returns once the Node's status says that a volume is in use, so that nobody detaches it, and attached.
func (a *attachWait) wait(ctx context.Context, name corev1.UniqueVolumeName) error {
	limited, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	err := a.until(limited, func(n *corev1.Node) bool {
		return slices.Contains(n.Status.VolumesInUse, name) && slices.ContainsFunc(n.Status.VolumesAttached, func(v corev1.AttachedVolume) bool { return v.Name == name })
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("volume %s is not attached: timed out waiting for the condition", name)
	}
	return err
}
