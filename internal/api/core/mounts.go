package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// validateMounts checks the volumes that a container sees as files.
func validateMounts(ctr *corev1.Container, volumes map[string]*corev1.VolumeSource, path *field.Path) (e check.Errors) {
	if len(ctr.VolumeMounts) == 0 {
		return nil
	}
	deviceNames, devicePaths := sets.New[string](), sets.New[string]()
	for _, d := range ctr.VolumeDevices {
		deviceNames.Insert(d.Name)
		devicePaths.Insert(d.DevicePath)
	}
	paths := sets.New[string]()
	for i := range ctr.VolumeMounts {
		m, at := &ctr.VolumeMounts[i], path.Index(i)
		e.NonEmpty(at.Child("name"), m.Name)
		if _, there := volumes[m.Name]; !there {
			e.NotFound(at.Child("name"), m.Name)
		}
		e.NonEmpty(at.Child("mountPath"), m.MountPath)
		if paths.Has(m.MountPath) {
			e.Invalid(at.Child("mountPath"), m.MountPath, "must be unique")
		}
		paths.Insert(m.MountPath)
		if deviceNames.Has(m.Name) {
			e.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if devicePaths.Has(m.MountPath) {
			e.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		// Upstream reports what follows at the list and not at the mount, except for the choice between subPath and subPathExpr.
		if m.SubPath != "" {
			e.Add(validateDescending(m.SubPath, path.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				e.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
			}
			e.Add(validateDescending(m.SubPathExpr, path.Child("subPathExpr"))...)
		}
		e.Add(validatePropagation(m, ctr, path.Child("mountPropagation"))...)
		e.Add(validateRecursiveReadOnly(m, path.Child("recursiveReadOnly"))...)
	}
	return e
}

func validatePropagation(m *corev1.VolumeMount, ctr *corev1.Container, path *field.Path) (e check.Errors) {
	if m.MountPropagation == nil {
		return nil
	}
	check.OneOf(&e, path, *m.MountPropagation, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	if *m.MountPropagation == corev1.MountPropagationBidirectional && !isPrivileged(ctr.SecurityContext) {
		e.Forbidden(path, "Bidirectional mount propagation is available only to privileged containers")
	}
	return e
}

func isPrivileged(sc *corev1.SecurityContext) bool {
	return sc != nil && sc.Privileged != nil && *sc.Privileged
}

func validateRecursiveReadOnly(m *corev1.VolumeMount, path *field.Path) (e check.Errors) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return nil
	}
	switch *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
		if !m.ReadOnly {
			e.Forbidden(path, "may only be specified when readOnly is true")
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			e.Forbidden(path, "may only be specified when mountPropagation is None or not specified")
		}
	default:
		check.OneOf(&e, path, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	}
	return e
}

// validateDevices checks the volumes that a container sees as block devices.
func validateDevices(ctr *corev1.Container, volumes map[string]*corev1.VolumeSource, path *field.Path) (e check.Errors) {
	if len(ctr.VolumeDevices) == 0 {
		return nil
	}
	mountNames, mountPaths := sets.New[string](), sets.New[string]()
	for _, m := range ctr.VolumeMounts {
		mountNames.Insert(m.Name)
		mountPaths.Insert(m.MountPath)
	}
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range ctr.VolumeDevices {
		name, place := path.Index(i).Child("name"), path.Index(i).Child("devicePath")
		source, there := volumes[d.Name]
		e.NonEmpty(name, d.Name)
		if names.Has(d.Name) {
			e.Invalid(name, d.Name, "must be unique")
		}
		if there && source.PersistentVolumeClaim == nil && source.Ephemeral == nil {
			e.Invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
		}
		if !there {
			e.NotFound(name, d.Name)
		}
		e.NonEmpty(place, d.DevicePath)
		if paths.Has(d.DevicePath) {
			e.Invalid(place, d.DevicePath, "must be unique")
		}
		if d.DevicePath != "" && len(validateNoBacksteps(d.DevicePath, place)) > 0 {
			e.Invalid(place, d.DevicePath, "can not contain backsteps ('..')")
		} else {
			paths.Insert(d.DevicePath)
		}
		if mountNames.Has(d.Name) {
			e.Invalid(name, d.Name, "must not already exist in volumeMounts")
		}
		if mountPaths.Has(d.DevicePath) {
			e.Invalid(place, d.DevicePath, "must not already exist as a path in volumeMounts")
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
	return e
}
