package volumeexpand

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestOnlyABoundClaimThatAsksForMoreGrows(t *testing.T) {
	for name, test := range map[string]struct {
		phase      corev1.PersistentVolumeClaimPhase
		have, want string
		grows      bool
	}{
		"more":              {corev1.ClaimBound, "1Gi", "2Gi", true},
		"as much":           {corev1.ClaimBound, "1Gi", "1Gi", false},
		"less":              {corev1.ClaimBound, "2Gi", "1Gi", false},
		"one not bound yet": {corev1.ClaimPending, "0", "1Gi", false},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &corev1.PersistentVolumeClaim{}
			claim.Status.Phase = test.phase
			claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(test.have)}
			claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(test.want)}
			if got := grows(claim); got != test.grows {
				t.Errorf("got %v", got)
			}
		})
	}
}
