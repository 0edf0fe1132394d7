package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// MountInput is what the mounts of a container are made from.
type MountInput struct {
	UID       types.UID
	Container *corev1.Container
	Volumes   map[string]Mounted
	// Env expands subPathExpr.
	Env []criconfig.EnvVar
	// ImageRef gives an image volume's image as the runtime knows it.
	ImageRef func(*corev1.ImageVolumeSource) (string, error)
	// RecursiveReadOnly tells whether the runtime can make mounts read-only with all that is below.
	RecursiveReadOnly bool
}

// ContainerMounts returns what the runtime binds into one container.
func (m *Manager) ContainerMounts(in MountInput) ([]*runtimeapi.Mount, error) {
	var out []*runtimeapi.Mount
	for i := range in.Container.VolumeMounts {
		vm := &in.Container.VolumeMounts[i]
		v, ok := in.Volumes[vm.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", vm.Name, in.Container.Name)
		}
		mount, err := m.containerMount(&in, i, vm, v)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	return out, nil
}

func (m *Manager) containerMount(in *MountInput, index int, vm *corev1.VolumeMount, v Mounted) (*runtimeapi.Mount, error) {
	target := vm.MountPath
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", target)
	}
	mount := &runtimeapi.Mount{ContainerPath: target, Readonly: vm.ReadOnly || v.ReadOnly}
	sub, err := expandSubPath(in, vm)
	if err != nil {
		return nil, err
	}
	if v.Image != nil {
		ref, err := in.ImageRef(v.Image)
		if err != nil {
			return nil, err
		}
		mount.Image, mount.ImageSubPath = &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: v.Image.Reference}, sub
		return mount, nil
	}
	mount.HostPath = v.Path
	if sub != "" {
		if mount.HostPath, err = m.subPath(in.UID, vm.Name, in.Container.Name, index, v.Path, sub); err != nil {
			return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", vm.Name, in.Container.Name, err)
		}
	} else if err := ensureSource(v); err != nil {
		return nil, err
	}
	if mount.RecursiveReadOnly, err = recursive(vm, in.RecursiveReadOnly); err != nil {
		return nil, err
	}
	mount.Propagation, err = propagation(vm.MountPropagation)
	return mount, err
}

// ensureSource makes the directory that a hostPath of no type names, as the runtime would not.
func ensureSource(v Mounted) error {
	if _, err := os.Stat(v.Path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(v.Path, 0o755); err != nil {
		return fmt.Errorf("make hostPath directory: %w", err)
	}
	return nil
}

func expandSubPath(in *MountInput, vm *corev1.VolumeMount) (string, error) {
	if vm.SubPathExpr == "" {
		return vm.SubPath, nil
	}
	path, missing, ok := criconfig.ExpandSubPath(vm.SubPathExpr, in.Env)
	if !ok {
		return "", fmt.Errorf("missing value for %q", missing)
	}
	return path, nil
}

func recursive(vm *corev1.VolumeMount, able bool) (bool, error) {
	if vm.RecursiveReadOnly == nil || *vm.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	if *vm.RecursiveReadOnly == corev1.RecursiveReadOnlyIfPossible {
		return able && vm.ReadOnly, nil
	}
	if !able {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", vm.Name)
	}
	return true, nil
}

func propagation(p *corev1.MountPropagationMode) (runtimeapi.MountPropagation, error) {
	if p == nil {
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE, nil
	}
	switch *p {
	case corev1.MountPropagationNone:
		return runtimeapi.MountPropagation_PROPAGATION_PRIVATE, nil
	case corev1.MountPropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, nil
	case corev1.MountPropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL, nil
	}
	return 0, fmt.Errorf("invalid MountPropagation mode: %q", *p)
}
