package volumes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	podsDir     = "pods"
	volumesDir  = "volumes"
	subPathsDir = "volume-subpaths"
	memoryDir   = "memory"
	dirMode     = 0o750
)

// Config says where volumes live.
type Config struct {
	// Root is the kubelet's directory.
	Root string
	// Further are asked before Plugins.
	Further []Plugin
	// LocalDir is where the volumes of the built-in provisioner are; "" is none.
	LocalDir string
	// Host gives the objects that volumes name.
	Host Host
	// Plugins are asked in order; nil is all.
	Plugins []Plugin
	Metrics *Metrics
	Logger  *slog.Logger
}

// Manager mounts and unmounts the volumes of pods. Its methods may be called concurrently for different pods.
type Manager struct {
	cfg Config

	mu     sync.Mutex
	placed map[types.UID]map[string]Placed
	alone  map[string]types.UID // by persistent volume: the one pod that may use it
}

// Placed is a volume that is there for a pod.
type Placed struct {
	Volume string // the pod's name for it
	Plugin string
	Dir    string
	Mounted
	Claim *corev1.PersistentVolumeClaim // nil if there is none behind it
}

// Placed lists the volumes that have been mounted for a pod since the manager was made.
func (m *Manager) Placed(uid types.UID) []Placed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.placed[uid]), func(a, b Placed) int { return strings.Compare(a.Volume, b.Volume) })
}

func (m *Manager) place(uid types.UID, p Placed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.placed[uid] == nil {
		m.placed[uid] = map[string]Placed{}
	}
	m.placed[uid][p.Volume] = p
}

// New returns a manager. The shared memory file system is mounted if it isn't.
func New(cfg Config) (*Manager, error) {
	if cfg.Plugins == nil {
		cfg.Plugins = builtin(&cfg)
	}
	cfg.Plugins = slices.Concat(cfg.Further, cfg.Plugins)
	m := &Manager{cfg: cfg, placed: map[types.UID]map[string]Placed{}, alone: map[string]types.UID{}}
	for _, dir := range []string{filepath.Join(cfg.Root, podsDir), filepath.Join(cfg.Root, memoryDir)} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return nil, fmt.Errorf("make the volumes' directory: %w", err)
		}
	}
	if err := makeShared(cfg.Root); err != nil {
		return nil, err
	}
	return m, m.mountMemory()
}

func builtin(cfg *Config) []Plugin {
	return []Plugin{emptyDir{}, hostPath{}, configMap{}, secret{}, projected{}, downwardAPI{}, image{}, localVolume{cfg.LocalDir}, nfs{}}
}

// mountMemory mounts one tmpfs for the small volumes that must not reach a disk: one mount for all keeps the mount table short, which every new
// container copies.
func (m *Manager) mountMemory() error {
	dir := filepath.Join(m.cfg.Root, memoryDir)
	mounted, err := IsMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	return mountTmpfs(dir, "mode=0750")
}

// PodDir returns the pod's own directory.
func (m *Manager) PodDir(uid types.UID) string {
	return filepath.Join(m.cfg.Root, podsDir, string(uid))
}

func (m *Manager) volumeDir(uid types.UID, p Plugin, name string) string {
	plugin := strings.ReplaceAll(p.Name(), "/", "~")
	if p.InMemory() {
		return filepath.Join(m.cfg.Root, memoryDir, string(uid), plugin, name)
	}
	return filepath.Join(m.PodDir(uid), volumesDir, plugin, name)
}

// MountError says which volume could not be mounted.
type MountError struct {
	Volume string
	Err    error
	// Unknown tells that the volume isn't known: what the pod says of it makes none.
	Unknown bool
}

func (e *MountError) Error() string {
	if e.Unknown {
		return fmt.Sprintf("Unable to attach or mount volumes: unmounted volumes=[%[1]s], unattached volumes=[], failed to process volumes=[%[1]s]: %[2]v", e.Volume, e.Err)
	}
	name := "MountVolume.SetUp"
	var s *StepError
	if errors.As(e.Err, &s) {
		name = s.Step
	}
	return fmt.Sprintf("%s failed for volume %q : %v", name, e.Volume, e.Err)
}

// StepError says which step of mounting failed, in a plugin that takes several: "MountVolume.MountDevice".
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

func (e *MountError) Unwrap() error { return e.Err }

// Mount makes all volumes of the pod appear, or brings them up to date. The error joins a MountError for each that failed.
func (m *Manager) Mount(ctx context.Context, pod *corev1.Pod) (map[string]Mounted, error) {
	out := make(map[string]Mounted, len(pod.Spec.Volumes))
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !used(pod, v.Name) {
			continue
		}
		mounted, err := m.mountOne(ctx, pod, v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out[v.Name] = mounted
	}
	return out, errors.Join(errs...)
}

// Refreshable tells whether the pod has a volume whose contents can change while it runs.
func Refreshable(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
	})
}

func (m *Manager) mountOne(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Mounted, error) {
	src, err := m.resolve(ctx, pod, v)
	if err != nil {
		return Mounted{}, &MountError{Volume: v.Name, Err: err, Unknown: true}
	}
	i := slices.IndexFunc(m.cfg.Plugins, func(p Plugin) bool { return p.Supports(&src) })
	if i < 0 {
		return Mounted{}, &MountError{Volume: v.Name, Err: errors.New("no volume plugin matched"), Unknown: true}
	}
	p := m.cfg.Plugins[i]
	r := &Request{Source: src, Pod: pod, Host: m.cfg.Host, FSUser: fsUser(pod)}
	name := v.Name
	if src.PV != nil {
		name = src.PV.Name // which several of the pod's volumes may be
	}
	r.Dir = m.volumeDir(pod.UID, p, name)
	if err := m.takeAlone(pod.UID, p, src.PV); err != nil {
		return Mounted{}, &MountError{Volume: name, Err: err}
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		r.FSGroup = sc.FSGroup
	}
	began := time.Now()
	mounted, err := p.Mount(ctx, r)
	m.cfg.Metrics.done("volume_mount", p.Name(), began, err)
	if err != nil {
		return Mounted{}, &MountError{Volume: name, Err: err}
	}
	mounted.ReadOnly = mounted.ReadOnly || src.ReadOnly
	m.place(pod.UID, Placed{Volume: v.Name, Plugin: p.Name(), Dir: r.Dir, Mounted: mounted, Claim: src.Claim})
	return mounted, nil
}

// Unmount gives back all volumes of a pod; what else its directory holds stays until Remove. Nothing of the pod may run any more.
func (m *Manager) Unmount(ctx context.Context, uid types.UID) error {
	if err := checkUID(uid); err != nil {
		return fmt.Errorf("unmount the volumes of pod %q: %w", uid, err)
	}
	m.mu.Lock()
	delete(m.placed, uid)
	m.mu.Unlock()
	errs := []error{m.unmountSubPaths(uid)}
	for _, base := range []string{filepath.Join(m.PodDir(uid), volumesDir), filepath.Join(m.cfg.Root, memoryDir, string(uid))} {
		errs = append(errs, m.unmountBelow(ctx, base))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Contents are deleted only when no mount is left below: a mount that stayed would have its contents deleted.
	for _, dir := range []string{filepath.Join(m.cfg.Root, memoryDir, string(uid)), filepath.Join(m.PodDir(uid), volumesDir), filepath.Join(m.PodDir(uid), subPathsDir)} {
		if err := removeUnmounted(dir); err != nil {
			return err
		}
	}
	m.giveBack(uid)
	return nil
}

// Remove deletes the directory of a pod that has no volumes any more. Absence is success.
func (m *Manager) Remove(uid types.UID) error {
	if err := checkUID(uid); err != nil {
		return fmt.Errorf("remove the directory of pod %q: %w", uid, err)
	}
	return removeUnmounted(m.PodDir(uid))
}

// checkUID refuses what would lead out of the pods' folder.
func checkUID(uid types.UID) error {
	if uid == "" || strings.ContainsAny(string(uid), "/\x00") || strings.HasPrefix(string(uid), ".") {
		return errors.New("not a UID")
	}
	return nil
}

func (m *Manager) unmountBelow(ctx context.Context, base string) error {
	var errs []error
	for _, p := range m.cfg.Plugins {
		dir := filepath.Join(base, strings.ReplaceAll(p.Name(), "/", "~"))
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("list volumes: %w", err))
			continue
		}
		for _, e := range entries {
			began := time.Now()
			err := p.Unmount(ctx, filepath.Join(dir, e.Name()))
			m.cfg.Metrics.done("volume_unmount", p.Name(), began, err)
			if err != nil {
				errs = append(errs, fmt.Errorf("UnmountVolume.TearDown failed for volume %q : %w", e.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// Pods lists the pods that have directories here.
func (m *Manager) Pods() ([]types.UID, error) { return Pods(m.cfg.Root) }

// Pods lists the pods that have directories in a kubelet's folder.
func Pods(root string) ([]types.UID, error) {
	seen := map[types.UID]bool{}
	for _, dir := range []string{filepath.Join(root, podsDir), filepath.Join(root, memoryDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list pods' directories: %w", err)
		}
		for _, e := range entries {
			seen[types.UID(e.Name())] = true
		}
	}
	return slices.Collect(maps.Keys(seen)), nil
}

// RefreshAt returns the earliest time at which a volume wants to be brought up to date; zero for none.
func RefreshAt(mounted map[string]Mounted) time.Time {
	var at time.Time
	for _, m := range mounted {
		if !m.Refresh.IsZero() && (at.IsZero() || m.Refresh.Before(at)) {
			at = m.Refresh
		}
	}
	return at
}

// Purge unmounts everything below a kubelet's directory, for removing a cluster.
func Purge(root string) error { return unmountTree(root) }
