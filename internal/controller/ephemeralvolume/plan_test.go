package ephemeralvolume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

func TestTheClaimOfAnEphemeralVolumeBelongsToItsPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}}
	v := &corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: new("fast")}}}}}
	claim := claimFor(pod, v)
	if claim.Name != "p-data" || claim.Namespace != "ns" || claim.Labels["a"] != "b" || *claim.Spec.StorageClassName != "fast" {
		t.Errorf("got %+v", claim)
	}
	if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
		t.Error(err)
	}
}
