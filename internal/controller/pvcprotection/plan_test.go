package pvcprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPodUsesAClaim(t *testing.T) {
	named := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "p-data"}}}
	own := corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u", Controller: new(true)}}
	for name, test := range map[string]struct {
		volume corev1.Volume
		node   string
		owners []metav1.OwnerReference
		want   bool
	}{
		"that it names":                                 {volume: named, node: "n", want: true},
		"but not before it has a node":                  {volume: named},
		"that was made for it":                          {volume: own, node: "n", owners: owner, want: true},
		"but not one of somebody else of the same name": {volume: own, node: "n"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}, Spec: corev1.PodSpec{NodeName: test.node, Volumes: []corev1.Volume{test.volume}}}
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "p-data", Namespace: "ns", OwnerReferences: test.owners}}
			if got := uses(pod, claim); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestWhatIsDueForAClaim(t *testing.T) {
	now := metav1.Now()
	for name, test := range map[string]struct {
		meta metav1.ObjectMeta
		want verdict
	}{
		"a new one without protection gets it":        {metav1.ObjectMeta{}, protect},
		"a protected one stays":                       {metav1.ObjectMeta{Finalizers: []string{finalizer}}, keep},
		"a deleted one is released":                   {metav1.ObjectMeta{Finalizers: []string{finalizer}, DeletionTimestamp: &now}, release},
		"a deleted one that others keep is let alone": {metav1.ObjectMeta{Finalizers: []string{"other"}, DeletionTimestamp: &now}, keep},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judge(&corev1.PersistentVolumeClaim{ObjectMeta: test.meta}); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
