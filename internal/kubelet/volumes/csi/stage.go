package csi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// use makes a volume usable on the node: attached and staged, as its driver wants it. It returns what attaching has yielded.
func (p *Plugin) use(ctx context.Context, t *task) (map[string]string, error) {
	dir := p.usedDir(t.v.driver, t.v.handle)
	rec := record{SpecName: t.v.name, Handle: t.v.handle, Driver: t.v.driver}
	if attachable(t.info) {
		rec.Attachable = yes
	}
	if old, err := readRecord(dir); err == nil {
		rec.Staged = old.Staged
	}
	if err := rec.write(dir); err != nil {
		return nil, err
	}
	var published map[string]string
	if rec.Attachable == yes {
		p.setInUse(t.v.uniqueName(), true)
		var err error
		if published, err = p.attachment(ctx, t.v); err != nil {
			return nil, &volumes.StepError{Step: "MountVolume.WaitForAttach", Err: err}
		}
	}
	p.mu.Lock()
	done := p.staged[dir]
	p.mu.Unlock()
	if done || !t.d.stages() {
		return published, nil
	}
	rec.Staged = yes
	if err := rec.write(dir); err != nil {
		return nil, err
	}
	if err := p.stage(ctx, t, dir, published); err != nil {
		return nil, &volumes.StepError{Step: t.v.firstStep(), Err: err}
	}
	p.mu.Lock()
	p.staged[dir] = true
	p.mu.Unlock()
	return published, nil
}

// attachment waits until a volume is attached and returns what the driver's controller says to its node.
func (p *Plugin) attachment(ctx context.Context, v *volume) (map[string]string, error) {
	if err := p.cfg.Attached(ctx, v.uniqueName()); err != nil {
		return nil, err
	}
	id := attachmentName(v.handle, v.driver, p.cfg.NodeName)
	a, err := client.VolumeAttachments.Get(ctx, p.cfg.Client, "", id)
	if err != nil {
		return nil, fmt.Errorf("volume %v has GET error for volume attachment %v: %w", v.handle, id, err)
	}
	if !attached(a) {
		return nil, fmt.Errorf("volume %v is not attached for volume attachment %v", v.handle, id)
	}
	return a.Status.AttachmentMetadata, nil
}

func attached(a *storagev1.VolumeAttachment) bool {
	return a.DeletionTimestamp == nil && a.Status.Attached
}

// stage asks the driver to stage a volume. That may be done already: staging is idempotent.
func (p *Plugin) stage(ctx context.Context, t *task, dir string, published map[string]string) error {
	secrets, err := p.secrets(ctx, t.v.stageSecret)
	if err != nil {
		return fmt.Errorf("fetching NodeStageSecretRef %s/%s failed: %w", t.v.stageSecret.Namespace, t.v.stageSecret.Name, err)
	}
	path := filepath.Join(dir, stageName)
	if err := os.MkdirAll(path, 0o750); err != nil {
		return fmt.Errorf("kubernetes.io/csi: attacher.MountDevice failed to create dir %q: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = t.d.node.NodeStageVolume(ctx, &csipb.NodeStageVolumeRequest{
		VolumeId: t.v.handle, PublishContext: published, StagingTargetPath: path,
		VolumeCapability: t.v.capability(t.d, t.r.FSGroup), Secrets: secrets, VolumeContext: t.v.attributes,
	})
	return err
}

// secrets reads what a reference names; nil names nothing.
func (p *Plugin) secrets(ctx context.Context, ref *corev1.SecretReference) (map[string]string, error) {
	if ref == nil || ref.Name == "" {
		return nil, nil
	}
	s, err := p.cfg.Host.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(s.Data))
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

// release unstages a volume that no pod uses any more. Its lock is held.
func (p *Plugin) release(ctx context.Context, rec record) error {
	others, err := p.published()
	if err != nil {
		return fmt.Errorf("find who else uses the volume: %w", err)
	}
	for _, o := range others {
		if o.Driver == rec.Driver && o.Handle == rec.Handle {
			return nil
		}
	}
	dir := p.usedDir(rec.Driver, rec.Handle)
	p.mu.Lock()
	delete(p.staged, dir)
	p.mu.Unlock()
	used, err := readRecord(dir)
	if err == nil && used.Staged == yes {
		if err := p.unstage(ctx, used, dir); err != nil {
			return fmt.Errorf("UnmountDevice failed for volume %q : %w", used.SpecName, err)
		}
	}
	if err := removeRecord(dir); err != nil {
		return err
	}
	p.setInUse(rec.name(), false)
	return nil
}

func (p *Plugin) unstage(ctx context.Context, rec record, dir string) error {
	d, err := p.find(rec.Driver)
	if err != nil {
		return fmt.Errorf("kubernetes.io/csi: Unmounter.UnmountDevice failed to get CSI client: %w", err)
	}
	path := filepath.Join(dir, stageName)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = d.node.NodeUnstageVolume(ctx, &csipb.NodeUnstageVolumeRequest{VolumeId: rec.Handle, StagingTargetPath: path})
	if err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	return p.removeTarget(path)
}

// removeTarget removes what a driver has left of a directory or device file, once nothing is mounted there.
func (p *Plugin) removeTarget(path string) error {
	mounted, err := volumes.IsMountPoint(path)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("the driver has left %s mounted", path)
	}
	return removeDir(path)
}

// sweep gives back the volumes of a driver that no pod uses: what a crash between unpublishing and unstaging has left.
func (p *Plugin) sweep(ctx context.Context, driver string) {
	used, err := p.used()
	if err != nil {
		p.cfg.Logger.Warn("unused volumes not looked for", "error", err)
		return
	}
	for _, rec := range used {
		if rec.Driver != driver {
			continue
		}
		unlock, err := p.locks.Lock(ctx, rec.Driver+"/"+rec.Handle)
		if err != nil {
			return
		}
		if err := p.release(ctx, rec); err != nil {
			p.cfg.Logger.Warn("unused volume not given back", "volume", rec.SpecName, "error", err)
		}
		unlock()
	}
}
