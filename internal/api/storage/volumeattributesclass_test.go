package storage

import (
	"testing"

	storagev1 "k8s.io/api/storage/v1"
)

// A map that is there but empty is not one that is absent: upstream compares them so.
func TestParametersMayNotBecomeEmpty(t *testing.T) {
	old := &storagev1.VolumeAttributesClass{DriverName: "csi.example.com"}
	changed := old.DeepCopy()
	changed.Parameters = map[string]string{}
	if errs := VolumeAttributesClasses.ValidateUpdate(changed, old); len(errs) != 2 || errs[0].Detail != "updates to parameters are forbidden." {
		t.Errorf("refused with %v", errs)
	}
}
