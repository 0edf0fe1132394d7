package vacprotection

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAClaimUsesTheClassesThatItNames(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{
		Spec: corev1.PersistentVolumeClaimSpec{VolumeAttributesClassName: new("gold")},
		Status: corev1.PersistentVolumeClaimStatus{CurrentVolumeAttributesClassName: new("silver"),
			ModifyVolumeStatus: &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "gold"}},
	}
	if got := ofClaim(claim); !slices.Equal(got, []string{"gold", "silver"}) {
		t.Errorf("got %v", got)
	}
}

func TestAClassGoesOnceItIsFree(t *testing.T) {
	class := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{finalizer}, DeletionTimestamp: new(metav1.Now())}}
	if _, differs := finalizers(class, func() bool { return true }); differs {
		t.Error("one in use was released")
	}
	if got, differs := finalizers(class, func() bool { return false }); !differs || len(got) != 0 {
		t.Errorf("a free one was kept: %v", got)
	}
}
