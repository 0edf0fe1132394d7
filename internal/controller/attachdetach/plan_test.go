package attachdetach

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const uniqueVolume = corev1.UniqueVolumeName("kubernetes.io/csi/d^h")

func TestWhatANodesVolumesNeed(t *testing.T) {
	now := time.Now()
	volume := func(mode corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}
		v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{mode}
		v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}
		return v
	}
	attachment := func(node string, attached bool, change ...func(*storagev1.VolumeAttachment)) *storagev1.VolumeAttachment {
		a := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("h", "d", node)}}
		a.Spec.NodeName, a.Spec.Attacher, a.Spec.Source.PersistentVolumeName = node, "d", new("v")
		a.Status.Attached = attached
		for _, f := range change {
			f(a)
		}
		return a
	}
	lost := func(a *storagev1.VolumeAttachment) { a.Spec.Source.PersistentVolumeName = new("lost") }
	going := func(a *storagev1.VolumeAttachment) { a.DeletionTimestamp = new(metav1.Now()) }
	node := func(readiness corev1.ConditionStatus, inUse bool, taints ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: readiness}}
		if inUse {
			n.Status.VolumesInUse = []corev1.UniqueVolumeName{uniqueVolume}
		}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key})
		}
		return n
	}
	for name, test := range map[string]struct {
		wanted      bool
		mode        corev1.PersistentVolumeAccessMode
		attachments []*storagev1.VolumeAttachment
		node        *corev1.Node
		elapsed     time.Duration
		attach      bool
		detach      bool
		attached    bool
		event       string
	}{
		"a wanted volume is attached":                         {wanted: true, node: node("True", false), attach: true},
		"one that is being attached is waited for":            {wanted: true, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", false)}},
		"one that is attached is told to the node":            {wanted: true, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, attached: true, event: `AttachVolume.Attach succeeded for volume "v" `},
		"one that is being detached is waited for":            {wanted: true, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true, going)}},
		"another node's volume is not taken":                  {wanted: true, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("m", true)}, event: "Multi-Attach error"},
		"what many nodes may have is shared":                  {wanted: true, mode: corev1.ReadWriteMany, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("m", true)}, attach: true},
		"an unwanted volume is detached":                      {node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, detach: true},
		"one that is still mounted stays":                     {node: node("True", true), attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, attached: true},
		"… for as long as it takes on a node that is ready":   {node: node("True", true), elapsed: time.Hour, attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, attached: true},
		"… for minutes on a node that is not":                 {node: node("Unknown", true), elapsed: 5 * time.Minute, attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, attached: true},
		"… and no longer":                                     {node: node("Unknown", true), elapsed: 7 * time.Minute, attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, detach: true},
		"a node that is out of service loses it at once":      {node: node("True", true, corev1.TaintNodeOutOfService), attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, detach: true},
		"a node that is no more loses it at once":             {attachments: []*storagev1.VolumeAttachment{attachment("n", true)}, detach: true},
		"a volume that is no more is detached":                {node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true, lost)}, detach: true},
		"… by us alone":                                       {node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true, lost, func(a *storagev1.VolumeAttachment) { a.Name = "theirs" })}},
		"what others have attached is none of our business":   {node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", true, func(a *storagev1.VolumeAttachment) { a.Name = "theirs" })}},
		"why a volume can't be attached is told to its users": {wanted: true, node: node("True", false), attachments: []*storagev1.VolumeAttachment{attachment("n", false, func(a *storagev1.VolumeAttachment) { a.Status.AttachError = &storagev1.VolumeError{Message: "no slot"} })}, event: `AttachVolume.Attach failed for volume "v" : no slot`},
	} {
		t.Run(name, func(t *testing.T) {
			mode := test.mode
			if mode == "" {
				mode = corev1.ReadWriteOnce
			}
			in := input{
				node: test.node, name: "n", attachments: test.attachments, now: now, uses: map[string]*use{},
				volume: func(name string) *corev1.PersistentVolume {
					if name == "lost" {
						return nil
					}
					return volume(mode)
				},
				podsElsewhere: func(*corev1.PersistentVolume) []*corev1.Pod { return nil },
				since:         map[string]time.Time{attachmentName("h", "d", "n"): now.Add(-test.elapsed)},
			}
			if test.wanted {
				in.uses["v"] = &use{volume: volume(mode), pods: []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "p"}}}}
			}
			p := makePlan(in)
			event := ""
			if len(p.notices) > 0 {
				event = p.notices[0].message
			}
			told := slices.ContainsFunc(p.attached, func(v corev1.AttachedVolume) bool { return v.Name == uniqueVolume })
			if len(p.attach) > 0 != test.attach || len(p.detach) > 0 != test.detach || told != test.attached || !strings.HasPrefix(event, test.event) || test.event == "" && event != "" {
				t.Errorf("got %+v", p)
			}
		})
	}
}
