package volumes

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

var errTaken = errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")

// takeAlone gives a volume that one pod alone may use to a pod, if no other on the node has it. The scheduler sees to that as well, but not for pods that
// name their node.
func (m *Manager) takeAlone(uid types.UID, p Plugin, pv *corev1.PersistentVolume) error {
	if pv == nil || !slices.Equal(pv.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	owner, taken := m.alone[pv.Name]
	if taken && owner != uid {
		return errTaken
	}
	// Who had it before the kubelet was started has its directory.
	found, err := filepath.Glob(filepath.Join(m.cfg.Root, podsDir, "*", volumesDir, strings.ReplaceAll(p.Name(), "/", "~"), pv.Name))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(dir string) bool { return dir != m.volumeDir(uid, p, pv.Name) }) {
		return errTaken
	}
	m.alone[pv.Name] = uid
	return nil
}

// giveBack lets others have what a pod had alone.
func (m *Manager) giveBack(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, owner := range m.alone {
		if owner == uid {
			delete(m.alone, name)
		}
	}
}
