package pvprotection

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFinalizersOfAVolume(t *testing.T) {
	for name, test := range map[string]struct {
		deleting bool
		phase    corev1.PersistentVolumePhase
		have     []string
		want     []string
		differs  bool
	}{
		"one without protection gets it":        {phase: corev1.VolumeAvailable, have: []string{"a"}, want: []string{"a", finalizer}, differs: true},
		"one that is bound stays":               {phase: corev1.VolumeBound, deleting: true, have: []string{finalizer}},
		"one that is deleted and free may go":   {phase: corev1.VolumeReleased, deleting: true, have: []string{finalizer, "a"}, want: []string{"a"}, differs: true},
		"one that goes gets no protection anew": {phase: corev1.VolumeBound, deleting: true, have: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Finalizers: test.have}, Status: corev1.PersistentVolumeStatus{Phase: test.phase}}
			if test.deleting {
				volume.DeletionTimestamp = new(metav1.Now())
			}
			got, differs := finalizers(volume)
			if differs != test.differs || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v", got, differs)
			}
		})
	}
}
