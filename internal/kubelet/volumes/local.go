package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// localVolume is a directory or block device of this node behind a persistent volume.
type localVolume struct{}

func (localVolume) Name() string            { return "kubernetes.io/local-volume" }
func (localVolume) Supports(s *Source) bool { return s.PV != nil && s.PV.Spec.Local != nil }
func (localVolume) InMemory() bool          { return false }

func (localVolume) Mount(_ context.Context, r *Request) (Mounted, error) {
	path := r.PV.Spec.Local.Path
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
	mounted, err := isMountPoint(r.Dir)
	if err != nil {
		return Mounted{}, err
	}
	if !mounted {
		if err := bind(path, r.Dir); err != nil {
			return Mounted{}, err
		}
		if err := chownGroup(r.Dir, r.FSGroup, changePolicy(r.Pod), r.ReadOnly); err != nil {
			return Mounted{}, errors.Join(err, unmount(r.Dir))
		}
	}
	return Mounted{Path: r.Dir}, nil
}

func changePolicy(pod *corev1.Pod) *corev1.PodFSGroupChangePolicy {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroupChangePolicy
}

func (localVolume) Unmount(_ context.Context, dir string) error { return unmount(dir) }
