package devicetainteviction

import (
	"testing"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhenTheUsersOfATaintedDeviceMustGo(t *testing.T) {
	added := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	taint := resourcev1.DeviceTaint{Key: "broken", Effect: resourcev1.DeviceTaintEffectNoExecute, TimeAdded: &metav1.Time{Time: added}}
	mild := resourcev1.DeviceTaint{Key: "broken", Effect: resourcev1.DeviceTaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: added}}
	tolerate := func(seconds *int64) resourcev1.DeviceToleration {
		return resourcev1.DeviceToleration{Key: "broken", Operator: resourcev1.DeviceTolerationOpExists, Effect: resourcev1.DeviceTaintEffectNoExecute, TolerationSeconds: seconds}
	}
	for name, test := range map[string]struct {
		taint       resourcev1.DeviceTaint
		generation  int64
		tolerations []resourcev1.DeviceToleration
		want        time.Time
	}{
		"at once":                            {taint: taint, want: added},
		"never if it is tolerated":           {taint: taint, tolerations: []resourcev1.DeviceToleration{tolerate(nil)}},
		"after the least of tolerated times": {taint: taint, tolerations: []resourcev1.DeviceToleration{tolerate(new(int64(60))), tolerate(new(int64(5)))}, want: added.Add(5 * time.Second)},
		"never for taints that don't evict":  {taint: mild},
		"never for slices that are outdated": {taint: taint, generation: 2},
	} {
		t.Run(name, func(t *testing.T) {
			slice := &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{Driver: "d", Pool: resourcev1.ResourcePool{Name: "p", Generation: 1},
				Devices: []resourcev1.Device{{Name: "x", Taints: []resourcev1.DeviceTaint{test.taint}}}}}
			newer := &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{Driver: "d", Pool: resourcev1.ResourcePool{Name: "p", Generation: test.generation}}}
			claim := &resourcev1.ResourceClaim{Status: resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
				Results: []resourcev1.DeviceRequestAllocationResult{{Driver: "d", Pool: "p", Device: "x", Tolerations: test.tolerations}}}}}}
			got := claimDeadline(claim, func(poolID) []*resourcev1.ResourceSlice { return []*resourcev1.ResourceSlice{slice, newer} })
			if (got == nil) != test.want.IsZero() || got != nil && !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
