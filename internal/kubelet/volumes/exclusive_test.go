package volumes

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAVolumeForOnePodIsGivenToNoOther(t *testing.T) {
	h := &host{
		pvcs: map[string]*corev1.PersistentVolumeClaim{"claim": {ObjectMeta: metav1.ObjectMeta{UID: "c"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}},
		pvs: map[string]*corev1.PersistentVolume{"pv": {ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: t.TempDir()}},
			AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, ClaimRef: &corev1.ObjectReference{UID: "c"},
		}}},
	}
	m := newManager(t, h)
	claim := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}
	first, second := podWith(claim), podWith(claim)
	second.UID = "uid-2"
	for range 2 {
		if _, err := m.Mount(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Mount(t.Context(), second); !errors.Is(err, errTaken) {
		t.Errorf("the second pod got it: %v", err)
	}
	clear(m.alone) // as after a restart
	if _, err := m.Mount(t.Context(), second); !errors.Is(err, errTaken) {
		t.Errorf("the second pod got it after a restart: %v", err)
	}
	if err := m.Unmount(t.Context(), first.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Mount(t.Context(), second); err != nil {
		t.Errorf("the second pod doesn't get it once it's free: %v", err)
	}
}
