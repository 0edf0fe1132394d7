package storage

import (
	"testing"

	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/api"
)

func TestADriversModesAreShownUnlessTheirTextIsEmpty(t *testing.T) {
	for want, modes := range map[string][]storagev1.VolumeLifecycleMode{
		"<none>":               {""},
		",":                    {"", ""},
		"Persistent,Ephemeral": {storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral},
	} {
		cells := csiDriverCells(&storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{VolumeLifecycleModes: modes}}, api.PrintOptions{})
		if got := cells[len(cells)-2]; got != want {
			t.Errorf("%q are shown as %q, not %q", modes, got, want)
		}
	}
}
