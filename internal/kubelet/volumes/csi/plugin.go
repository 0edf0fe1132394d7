package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/volumes"
	"clipper.dev/clipper/internal/kubelet/volumes/locks"
)

// Config is what a Plugin is made from. All fields are required.
type Config struct {
	// Root is the kubelet's directory.
	Root     string
	NodeName string
	Client   client.Client
	// Host gives the Secrets that volumes name.
	Host volumes.Host
	// Token returns a token for a pod's service account.
	Token func(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (authenticationv1.TokenRequestStatus, error)
	// Attached returns once the Node's status says that a volume is in use here and attached.
	Attached func(ctx context.Context, name corev1.UniqueVolumeName) error
	// UseChanged is called when InUse has changed.
	UseChanged func()
	Events     *events.Recorder
	Metrics    *Metrics
	Logger     *slog.Logger
}

// Plugin mounts the volumes of CSI drivers. It implements volumes.Plugin and plugins.Handler.
type Plugin struct {
	cfg   Config
	locks locks.ByName

	mu      sync.Mutex
	drivers map[string]*driver
	// done are the publications, by directory, that were made or confirmed since the kubelet has started.
	done map[string]*publication
	// staged are the volumes, by directory, that were staged since the kubelet has started.
	staged map[string]bool
	// inUse are the volumes that must stay attached: those with a record on disk that says so.
	inUse map[corev1.UniqueVolumeName]bool
}

// publication is a volume that is there for a pod.
type publication struct {
	mounted volumes.Mounted
	size    int64 // to which the volume was expanded on this node
}

// New returns a plugin that knows the volumes that earlier ones have left in use.
func New(cfg Config) (*Plugin, error) {
	p := &Plugin{cfg: cfg, drivers: map[string]*driver{}, done: map[string]*publication{}, staged: map[string]bool{}, inUse: map[corev1.UniqueVolumeName]bool{}}
	used, err := p.used()
	if err != nil {
		return nil, fmt.Errorf("find the volumes in use: %w", err)
	}
	for _, r := range used {
		if r.Attachable == yes {
			p.inUse[r.name()] = true
		}
	}
	return p, nil
}

// Start makes the CSINode, which is there before any driver is.
func (p *Plugin) Start(ctx context.Context) error {
	if err := p.changeCSINode(ctx, func(*storagev1.CSINode) {}); err != nil {
		return fmt.Errorf("make the CSINode: %w", err)
	}
	return nil
}

// InUse lists the volumes that the control plane must not detach, in the order of their names.
func (p *Plugin) InUse() []corev1.UniqueVolumeName {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []corev1.UniqueVolumeName
	for name := range p.inUse {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (p *Plugin) setInUse(name corev1.UniqueVolumeName, on bool) {
	p.mu.Lock()
	changed := p.inUse[name] != on
	if on {
		p.inUse[name] = true
	} else {
		delete(p.inUse, name)
	}
	p.mu.Unlock()
	if changed {
		p.cfg.UseChanged()
	}
}

// Name implements volumes.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/csi" }

// Supports implements volumes.Plugin.
func (*Plugin) Supports(s *volumes.Source) bool {
	return s.PV != nil && s.PV.Spec.CSI != nil || s.PV == nil && s.Volume.CSI != nil
}

// InMemory implements volumes.Plugin.
func (*Plugin) InMemory() bool { return false }

// refreshInterval is how often a volume is looked at that has to be published again or may have grown.
const refreshInterval = time.Minute

// Mount implements volumes.Plugin.
func (p *Plugin) Mount(ctx context.Context, r *volumes.Request) (volumes.Mounted, error) {
	v := describe(r)
	d, err := p.find(v.driver)
	if err != nil {
		return volumes.Mounted{}, &volumes.StepError{Step: v.firstStep(), Err: fmt.Errorf("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: %w", err)}
	}
	info, err := p.driverInfo(ctx, v.driver)
	if err != nil {
		return volumes.Mounted{}, err
	}
	if err := v.checkMode(info); err != nil {
		return volumes.Mounted{}, fmt.Errorf("kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: %w", err)
	}
	unlock, err := p.locks.Lock(ctx, v.driver+"/"+v.handle)
	if err != nil {
		return volumes.Mounted{}, err
	}
	defer unlock()
	p.mu.Lock()
	have := p.done[r.Dir]
	p.mu.Unlock()
	republish := info != nil && info.Spec.RequiresRepublish != nil && *info.Spec.RequiresRepublish
	if have == nil || republish {
		if have, err = p.prepare(ctx, &task{d: d, info: info, v: v, r: r, again: have != nil}, have); err != nil {
			return volumes.Mounted{}, err
		}
	}
	if err := p.expand(ctx, d, v, r, have); err != nil {
		return volumes.Mounted{}, err
	}
	mounted := have.mounted
	if republish || v.claim != nil && d.expands() {
		mounted.Refresh = time.Now().Add(refreshInterval)
	}
	return mounted, nil
}

// task is a volume to make appear for a pod.
type task struct {
	d     *driver
	info  *storagev1.CSIDriver // nil if there is none
	v     *volume
	r     *volumes.Request
	again bool // it is there already, and published anew
}

// prepare attaches, stages and publishes a volume.
func (p *Plugin) prepare(ctx context.Context, t *task, have *publication) (*publication, error) {
	rec := record{
		SpecName: t.v.name, Handle: t.v.handle, Driver: t.v.driver, Node: p.cfg.NodeName, Mode: string(t.v.mode),
		AttachmentID: attachmentName(t.v.handle, t.v.driver, p.cfg.NodeName),
	}
	if err := rec.write(t.r.Dir); err != nil {
		return nil, err
	}
	var published map[string]string // what attaching has yielded
	if t.v.mode == storagev1.VolumeLifecyclePersistent {
		var err error
		if published, err = p.use(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := p.publish(ctx, t, published); err != nil {
		return nil, err
	}
	if have == nil {
		have = &publication{mounted: volumes.Mounted{Path: filepath.Join(t.r.Dir, mountName), ReadOnly: t.v.readOnly}}
		if t.v.block {
			have.mounted = volumes.Mounted{Device: filepath.Join(t.r.Dir, mountName), ReadOnly: t.v.readOnly}
		}
	}
	p.mu.Lock()
	p.done[t.r.Dir] = have
	p.mu.Unlock()
	return have, nil
}

// driverInfo returns what the cluster knows of a driver; nil if that is nothing.
func (p *Plugin) driverInfo(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	info, err := client.CSIDrivers.Get(ctx, p.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read CSIDriver %s: %w", name, err)
	}
	return info, nil
}

// Unmount implements volumes.Plugin.
func (p *Plugin) Unmount(ctx context.Context, dir string) error {
	rec, err := readRecord(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was begun
	}
	if err != nil {
		return err
	}
	unlock, err := p.locks.Lock(ctx, rec.Driver+"/"+rec.Handle)
	if err != nil {
		return err
	}
	defer unlock()
	p.mu.Lock()
	delete(p.done, dir)
	p.mu.Unlock()
	if err := p.unpublish(ctx, rec, dir); err != nil {
		return err
	}
	if rec.Mode == string(storagev1.VolumeLifecycleEphemeral) {
		return nil
	}
	return p.release(ctx, rec)
}
