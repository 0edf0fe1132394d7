package devicetainteviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	dra "k8s.io/dynamic-resource-allocation/resourceclaim"
)

// poolID names a pool: only the slices of its latest generation count.
type poolID struct{ driver, pool string }

func poolOf(s *resourcev1.ResourceSlice) poolID { return poolID{s.Spec.Driver, s.Spec.Pool.Name} }

// deviceTaints returns the taints of a pool's device that evict.
func deviceTaints(slices []*resourcev1.ResourceSlice, device string) []resourcev1.DeviceTaint {
	var latest int64
	for _, s := range slices {
		latest = max(latest, s.Spec.Pool.Generation)
	}
	var out []resourcev1.DeviceTaint
	for _, s := range slices {
		if s.Spec.Pool.Generation != latest {
			continue
		}
		for i := range s.Spec.Devices {
			if s.Spec.Devices[i].Name == device {
				out = append(out, evicting(s.Spec.Devices[i].Taints)...)
			}
		}
	}
	return out
}

func evicting(taints []resourcev1.DeviceTaint) []resourcev1.DeviceTaint {
	var out []resourcev1.DeviceTaint
	for _, t := range taints {
		if t.Effect == resourcev1.DeviceTaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// claimDeadline tells when those who use a claim must go; nil if they may stay.
func claimDeadline(claim *resourcev1.ResourceClaim, slices func(poolID) []*resourcev1.ResourceSlice) *time.Time {
	if claim.Status.Allocation == nil {
		return nil
	}
	var first *time.Time
	for i := range claim.Status.Allocation.Devices.Results {
		result := &claim.Status.Allocation.Devices.Results[i]
		for _, taint := range deviceTaints(slices(poolID{result.Driver, result.Pool}), result.Device) {
			if at := taintDeadline(taint, result.Tolerations); at != nil && (first == nil || at.Before(*first)) {
				first = at
			}
		}
	}
	return first
}

// taintDeadline is when a taint evicts: when it was added, and after the least of the times for which it's tolerated.
func taintDeadline(taint resourcev1.DeviceTaint, tolerations []resourcev1.DeviceToleration) *time.Time {
	var at time.Time
	if taint.TimeAdded != nil {
		at = taint.TimeAdded.Time
	}
	least, tolerated := int64(0), false
	for _, t := range tolerations {
		if t.Effect != resourcev1.DeviceTaintEffectNoExecute || !dra.ToleratesTaint(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return nil
		}
		if seconds := max(*t.TolerationSeconds, 0); !tolerated || seconds < least {
			least, tolerated = seconds, true
		}
	}
	at = at.Add(time.Duration(least) * time.Second)
	return &at
}

// podDeadline tells when a pod must go because of its claims' devices; nil if it may stay.
func podDeadline(pod *corev1.Pod, claim func(name string) *resourcev1.ResourceClaim, slices func(poolID) []*resourcev1.ResourceSlice) *time.Time {
	var first *time.Time
	for i := range pod.Spec.ResourceClaims {
		name, owned, err := dra.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue
		}
		c := claim(*name)
		if c == nil || owned && dra.IsForPod(pod, c, false) != nil || !dra.IsReservedForPod(pod, c, false) {
			continue
		}
		if at := claimDeadline(c, slices); at != nil && (first == nil || at.Before(*first)) {
			first = at
		}
	}
	return first
}
