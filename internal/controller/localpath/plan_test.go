package localpath

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"clipper.dev/clipper/internal/localpath"
)

func TestWhatIsDueForAVolumeThatNobodyUses(t *testing.T) {
	node := func(uid, reclaim string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
		n.UID = "u"
		if uid != "" {
			n.UID = "other"
		}
		if reclaim != "" {
			n.Annotations = map[string]string{localpath.Reclaim: reclaim}
		}
		return n
	}
	for name, test := range map[string]struct {
		phase    corev1.PersistentVolumePhase
		policy   corev1.PersistentVolumeReclaimPolicy
		deleting bool
		asked    string
		node     *corev1.Node
		want     step
	}{
		"one in use is let alone":                            {phase: corev1.VolumeBound, node: node("", ""), want: nothing},
		"one in use that somebody deletes is let alone":      {phase: corev1.VolumeBound, deleting: true, node: node("", ""), want: nothing},
		"a released one is asked for":                        {phase: corev1.VolumeReleased, node: node("", "pvc-2"), want: ask},
		"a request is noted":                                 {phase: corev1.VolumeReleased, node: node("", "pvc-1,pvc-2"), want: mark},
		"one that the node works on waits":                   {phase: corev1.VolumeReleased, asked: "u", node: node("", "pvc-1,pvc-2"), want: nothing},
		"one that the node has removed goes":                 {phase: corev1.VolumeReleased, asked: "u", node: node("", "pvc-2"), want: finish},
		"a node that came anew is asked anew":                {phase: corev1.VolumeReleased, asked: "u", node: node("other", ""), want: ask},
		"one whose node is no more goes":                     {phase: corev1.VolumeReleased, want: finish},
		"a released one that is to stay stays":               {phase: corev1.VolumeReleased, policy: corev1.PersistentVolumeReclaimRetain, node: node("", ""), want: nothing},
		"a deleted one that is to stay keeps its directory":  {phase: corev1.VolumeReleased, policy: corev1.PersistentVolumeReclaimRetain, deleting: true, node: node("", ""), want: release},
		"a deleted one that was never bound is cleaned away": {phase: corev1.VolumeAvailable, deleting: true, node: node("", ""), want: ask},
	} {
		t.Run(name, func(t *testing.T) {
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", Finalizers: []string{finalizer}, Annotations: map[string]string{annAsked: test.asked}}}
			pv.Status.Phase = test.phase
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
			if test.policy != "" {
				pv.Spec.PersistentVolumeReclaimPolicy = test.policy
			}
			if test.deleting {
				pv.DeletionTimestamp = new(metav1.Now())
			}
			if got := planVolume(pv, test.node); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestWhatLocalVolumesCannotBe(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for name, test := range map[string]struct {
		change  func(*corev1.PersistentVolumeClaim, *storagev1.StorageClass)
		refused bool
	}{
		"an ordinary claim is served":   {change: func(*corev1.PersistentVolumeClaim, *storagev1.StorageClass) {}},
		"one without a node is refused": {refused: true, change: func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) { c.Annotations = nil }},
		"one that many nodes share is refused": {refused: true, change: func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		}},
		"a block device is refused": {refused: true, change: func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) { c.Spec.VolumeMode = &block }},
		"a selector is refused": {refused: true, change: func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.Selector = &metav1.LabelSelector{}
		}},
		"a parameter that is unknown is refused": {refused: true, change: func(_ *corev1.PersistentVolumeClaim, s *storagev1.StorageClass) {
			s.Parameters = map[string]string{"a": "b"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{volumehelpers.AnnSelectedNode: "n"}}}
			claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
			class := &storagev1.StorageClass{}
			test.change(claim, class)
			if err := refusal(claim, class); (err != nil) != test.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAVolumeLiesInItsNodesFolderAndIsReachedFromThereAlone(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "1"}}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelHostname: "h"}, Annotations: map[string]string{localpath.Directory: "/data/volumes"}}}
	pv, err := volumeFor(claim, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local-path"}}, node)
	if err != nil {
		t.Fatal(err)
	}
	if dir, ok := localpath.Volume("/data/volumes", pv); !ok || dir != "/data/volumes/pvc-1" {
		t.Errorf("got %s, %v", dir, ok)
	}
	if got := pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]; got.Key != corev1.LabelHostname || got.Values[0] != "h" {
		t.Errorf("got %v", got)
	}
	node.Annotations = nil
	if _, err := volumeFor(claim, &storagev1.StorageClass{}, node); err == nil {
		t.Error("a node that announces no folder got a volume")
	}
}
