package iscsi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"

	"clipper.dev/clipper/internal/kubelet/volumes"
	"clipper.dev/clipper/internal/kubelet/volumes/locks"
)

const pluginName = "kubernetes.io/iscsi"

// Config is what a Plugin is made from. All fields are required.
type Config struct {
	// Root is the kubelet's directory.
	Root string
	// Host gives the Secrets that volumes name.
	Host   volumes.Host
	Logger *slog.Logger
}

// Plugin mounts iSCSI volumes. It implements volumes.Plugin.
type Plugin struct {
	cfg     Config
	targets locks.ByName // sessions are shared by a target's units
	sys     sysfs
	admin   func(ctx context.Context, args ...string) (string, error)
	mounter *mount.SafeFormatAndMount
}

// New returns a plugin. What earlier ones have left in use it finds when it is asked.
func New(cfg Config) *Plugin {
	return &Plugin{cfg: cfg, sys: "/sys", admin: iscsiadm, mounter: mount.NewSafeFormatAndMount(mount.New(""), utilexec.New())}
}

// Name implements volumes.Plugin.
func (*Plugin) Name() string { return pluginName }

// Supports implements volumes.Plugin.
func (*Plugin) Supports(s *volumes.Source) bool {
	return s.PV != nil && s.PV.Spec.ISCSI != nil || s.PV == nil && s.Volume.ISCSI != nil
}

// InMemory implements volumes.Plugin.
func (*Plugin) InMemory() bool { return false }

// Mount implements volumes.Plugin.
func (p *Plugin) Mount(ctx context.Context, r *volumes.Request) (volumes.Mounted, error) {
	d, a := describe(r)
	if err := os.MkdirAll(r.Dir, dirMode); err != nil {
		return volumes.Mounted{}, fmt.Errorf("make directory: %w", err)
	}
	mounted, err := volumes.IsMountPoint(r.Dir)
	if err != nil {
		return volumes.Mounted{}, err
	}
	if mounted {
		return volumes.Mounted{Path: r.Dir, ReadOnly: a.readOnly}, nil
	}
	unlock, err := p.targets.Lock(ctx, d.Target)
	if err != nil {
		return volumes.Mounted{}, err
	}
	defer unlock()
	if err := p.addUser(d, r.Dir); err != nil {
		return volumes.Mounted{}, err
	}
	device, err := p.attach(ctx, d, a, func() (map[string]string, error) { return p.credentials(ctx, a) })
	if err != nil {
		return volumes.Mounted{}, &volumes.StepError{Step: a.attachStep(), Err: err}
	}
	if a.block {
		return volumes.Mounted{Device: device, ReadOnly: a.readOnly}, nil
	}
	stage := filepath.Join(p.dir(d), stageName)
	if err := p.stage(device, stage, a); err != nil {
		return volumes.Mounted{}, &volumes.StepError{Step: "MountVolume.MountDevice", Err: err}
	}
	if err := volumes.Bind(stage, r.Dir); err != nil {
		return volumes.Mounted{}, err
	}
	if err := volumes.ChownGroup(r.Dir, r.FSGroup, volumes.ChangePolicy(r.Pod), a.readOnly); err != nil {
		return volumes.Mounted{}, errors.Join(err, volumes.Unmount(r.Dir))
	}
	return volumes.Mounted{Path: r.Dir, ReadOnly: a.readOnly}, nil
}

func (a *access) attachStep() string {
	if a.block {
		return "MapVolume.WaitForAttach"
	}
	return "MountVolume.WaitForAttach"
}

// credentials reads the names and passwords for CHAP.
func (p *Plugin) credentials(ctx context.Context, a *access) (map[string]string, error) {
	if a.secret == nil || !a.discovery && !a.session {
		return nil, nil
	}
	s, err := p.cfg.Host.Secret(ctx, a.secret.Namespace, a.secret.Name)
	if err != nil {
		return nil, fmt.Errorf("couldn't get secret %s/%s: %w", a.secret.Namespace, a.secret.Name, err)
	}
	out := make(map[string]string, len(s.Data))
	for key, value := range s.Data {
		out[key] = string(value)
	}
	return out, nil
}

// stage mounts a unit's file system for the node. A unit that has none is given one, unless it must not be written to.
func (p *Plugin) stage(device, dir string, a *access) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	mounted, err := volumes.IsMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	options := []string{"rw"}
	if a.readOnly {
		options = []string{"ro"}
	}
	for _, o := range a.options {
		if !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	return p.mounter.FormatAndMount(device, dir, a.fsType, options)
}

// Unmount implements volumes.Plugin.
func (p *Plugin) Unmount(ctx context.Context, dir string) error {
	if err := volumes.Unmount(dir); err != nil {
		return err
	}
	d, err := p.usedBy(dir)
	if err != nil || d == nil {
		return err
	}
	unlock, err := p.targets.Lock(ctx, d.Target)
	if err != nil {
		return err
	}
	defer unlock()
	if d, err = p.usedBy(dir); err != nil || d == nil {
		return err
	}
	if d.Users = slices.DeleteFunc(d.Users, func(u string) bool { return u == dir }); len(d.Users) > 0 {
		return p.write(d)
	}
	return p.release(ctx, d)
}

// release gives back a unit that nobody uses. Its record goes last, so that what fails is tried again.
func (p *Plugin) release(ctx context.Context, d *disk) error {
	dir := p.dir(d)
	stage := filepath.Join(dir, stageName)
	if err := volumes.Unmount(stage); err != nil {
		return err
	}
	if err := p.detach(ctx, d); err != nil {
		return err
	}
	// Neither is removed with contents: a mount that stayed would lose its own.
	for _, path := range []string{stage, filepath.Join(dir, recordFile), dir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove an iSCSI volume's directory: %w", err)
		}
	}
	return nil
}

// flush takes a disk of several paths apart, once everything is written.
func (p *Plugin) flush(ctx context.Context, device string) error {
	if out, err := exec.CommandContext(ctx, "multipath", "-f", device).CombinedOutput(); err != nil {
		return fmt.Errorf("multipath -f %s: %w: %s", device, err, strings.TrimSpace(string(out)))
	}
	return nil
}
