package attachdetach

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestWhatANodesPodsWantIsCountedUntilTheyGo(t *testing.T) {
	c := newCollector()
	registry := prometheus.NewRegistry()
	registry.MustRegister(withoutAttachments{c})
	check := func(inUse float64) {
		t.Helper()
		if got := expositiontest.Sum(expositiontest.Gather(t, registry)["storage_count_attachable_volumes_in_use"]); got != inUse {
			t.Errorf("%v volumes are in use, not %v", got, inUse)
		}
	}
	c.want("n1", demand{attach: map[string]int{"kubernetes.io/csi:a": 1}, inUse: map[string]int{"kubernetes.io/csi:a": 2}})
	c.want("n2", demand{attach: map[string]int{"kubernetes.io/csi:a": 1}, inUse: map[string]int{"kubernetes.io/csi:a": 1, "kubernetes.io/csi:b": 1}})
	check(4)
	c.want("n2", demand{})
	check(2)
}

// withoutAttachments shows what a collector knows of pods alone.
type withoutAttachments struct{ *collector }

func (w withoutAttachments) Collect(out chan<- prometheus.Metric) {
	w.collect(out, nil)
}

func TestADetachmentWithoutTheNodesConsentIsForced(t *testing.T) {
	now := time.Unix(1e9, 0)
	for name, test := range map[string]struct {
		taints []corev1.Taint
		inUse  bool
		since  time.Time
		want   string
	}{
		"not if the node has let go":       {want: ""},
		"after six minutes":                {inUse: true, since: now.Add(-maxWaitForUnmount), want: "timeout"},
		"where the node is out of service": {inUse: true, since: now, taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}, want: "out-of-service"},
	} {
		t.Run(name, func(t *testing.T) {
			volume := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}}}}
			volume.Name = "v"
			a := &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume.Name}}}
			a.Name = attachmentName("h", "d", "n1")
			node := &corev1.Node{Spec: corev1.NodeSpec{Taints: test.taints}}
			if test.inUse {
				node.Status.VolumesInUse = []corev1.UniqueVolumeName{uniqueName("d", "h")}
			}
			p := makePlan(input{node: node, name: "n1", attachments: []*storagev1.VolumeAttachment{a}, now: now, since: map[string]time.Time{a.Name: test.since},
				volume: func(string) *corev1.PersistentVolume { return volume }})
			if len(p.detach) != 1 || p.forced[a.Name] != test.want {
				t.Errorf("%d go, forced by %q, not %q", len(p.detach), p.forced[a.Name], test.want)
			}
		})
	}
}
