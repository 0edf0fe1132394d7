package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/localpath"
)

// localVolume is a directory or block device of this node behind a persistent volume.
type localVolume struct {
	folder string // of the built-in provisioner's volumes
}

func (localVolume) Name() string            { return "kubernetes.io/local-volume" }
func (localVolume) Supports(s *Source) bool { return s.PV != nil && s.PV.Spec.Local != nil }
func (localVolume) InMemory() bool          { return false }

func (l localVolume) Mount(_ context.Context, r *Request) (Mounted, error) {
	path := r.PV.Spec.Local.Path
	if dir, ok := localpath.Volume(l.folder, r.PV); ok {
		if err := makeOpenDir(dir); err != nil {
			return Mounted{}, err
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return Mounted{}, fmt.Errorf("look at local volume %s: %w", path, err)
	}
	if mode := r.PV.Spec.VolumeMode; mode != nil && *mode == corev1.PersistentVolumeBlock {
		if info.Mode().Type() != fs.ModeDevice {
			return Mounted{}, fmt.Errorf("local volume %s is not a block device", path)
		}
		return Mounted{Device: path}, nil
	}
	if !info.IsDir() {
		return Mounted{}, fmt.Errorf("local volume %s is not a directory; format and mount the device first", path)
	}
	if err := os.MkdirAll(r.Dir, dirMode); err != nil {
		return Mounted{}, fmt.Errorf("make directory: %w", err)
	}
	mounted, err := IsMountPoint(r.Dir)
	if err != nil {
		return Mounted{}, err
	}
	if !mounted {
		if err := Bind(path, r.Dir); err != nil {
			return Mounted{}, err
		}
		if err := ChownGroup(r.Dir, r.FSGroup, ChangePolicy(r.Pod), r.ReadOnly); err != nil {
			return Mounted{}, errors.Join(err, Unmount(r.Dir))
		}
	}
	return Mounted{Path: r.Dir}, nil
}

// makeOpenDir makes a directory that any user may write to, as a volume of whatever user's pod has to be. One that is there stays as it is.
func makeOpenDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return fmt.Errorf("make the local volumes' folder: %w", err)
	}
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o777) // creation is subject to the umask
	}
	if err != nil {
		return fmt.Errorf("make local volume: %w", err)
	}
	return nil
}

// RemoveLocal removes the directory of a volume of the built-in provisioner. Absence is success.
func RemoveLocal(folder, name string) error {
	dir, err := localpath.Path(folder, name)
	if err != nil {
		return err
	}
	return removeUnmounted(dir)
}

// ChangePolicy says when a pod wants its group to be given its volumes; nil is always.
func ChangePolicy(pod *corev1.Pod) *corev1.PodFSGroupChangePolicy {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroupChangePolicy
}

func (localVolume) Unmount(_ context.Context, dir string) error { return Unmount(dir) }
