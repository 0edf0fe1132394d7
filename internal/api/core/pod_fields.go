package core

import corev1 "k8s.io/api/core/v1"

// DropDisabledTemplateFields removes fields behind feature gates that are off, unless the template had them before.
func DropDisabledTemplateFields(t, old *corev1.PodTemplateSpec) {
	switch {
	case t == nil:
	case old == nil:
		dropDisabledFields(&t.Spec, nil)
	default:
		dropDisabledFields(&t.Spec, &old.Spec)
	}
}

// dropDisabledFields removes what the gates ClusterTrustBundleProjection, PodCertificateRequest, GenericWorkload and ContainerStopSignals
// would allow.
func dropDisabledFields(spec, old *corev1.PodSpec) {
	if spec.SchedulingGroup != nil && (old == nil || old.SchedulingGroup == nil) {
		spec.SchedulingGroup = nil
	}
	if !projects(old, func(p *corev1.VolumeProjection) bool { return p.ClusterTrustBundle != nil }) {
		projects(spec, func(p *corev1.VolumeProjection) bool { p.ClusterTrustBundle = nil; return false })
	}
	if !projects(old, func(p *corev1.VolumeProjection) bool { return p.PodCertificate != nil }) {
		projects(spec, func(p *corev1.VolumeProjection) bool { p.PodCertificate = nil; return false })
	}
	if hasStopSignal(old) {
		return
	}
	for _, c := range allContainers(spec) {
		if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
			continue
		}
		c.Lifecycle.StopSignal = nil
		if *c.Lifecycle == (corev1.Lifecycle{}) {
			c.Lifecycle = nil
		}
	}
}

// projects visits the sources of projected volumes until one answers true.
func projects(spec *corev1.PodSpec, visit func(*corev1.VolumeProjection) bool) bool {
	if spec == nil {
		return false
	}
	for i := range spec.Volumes {
		if spec.Volumes[i].Projected == nil {
			continue
		}
		for j := range spec.Volumes[i].Projected.Sources {
			if visit(&spec.Volumes[i].Projected.Sources[j]) {
				return true
			}
		}
	}
	return false
}

func hasStopSignal(spec *corev1.PodSpec) bool {
	if spec == nil {
		return false
	}
	for _, c := range allContainers(spec) {
		if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
			return true
		}
	}
	return false
}
