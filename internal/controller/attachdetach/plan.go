package attachdetach

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxWaitForUnmount is how long a node that isn't ready may keep a volume that shall go.
const maxWaitForUnmount = 6 * time.Minute

// attachmentName names the attachment of a driver's volume to a node.
func attachmentName(handle, driver, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

// ours matches what attachmentName makes, for volumes that can't be asked any more.
var ours = regexp.MustCompile("^csi-[0-9a-f]{64}$")

// uniqueName is a volume's name in a node's status.
func uniqueName(driver, handle string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + driver + "^" + handle)
}

// use is a volume and the pods of one node that use it.
type use struct {
	volume *corev1.PersistentVolume
	pods   []*corev1.Pod
}

// input is what a node's plan depends on.
type input struct {
	node *corev1.Node // nil if it's no more
	name string
	uses map[string]*use // by volume: what the node's pods want
	// attachments are those of all nodes that concern the volumes, and all of this node.
	attachments []*storagev1.VolumeAttachment
	// volume returns a volume; nil if it's no more.
	volume func(name string) *corev1.PersistentVolume
	// podsElsewhere lists the pods of other nodes that use a volume.
	podsElsewhere func(volume *corev1.PersistentVolume) []*corev1.Pod
	// since is when each attachment was first to go.
	since map[string]time.Time
	now   time.Time
}

// notice is an event about a pod.
type notice struct {
	pod                   *corev1.Pod
	kind, reason, message string
}

// plan is what is due for a node.
type plan struct {
	attach   []*storagev1.VolumeAttachment
	detach   []*storagev1.VolumeAttachment
	forced   map[string]string       // those of detach whose volumes may still be mounted, and why they go
	attached []corev1.AttachedVolume // what the node's status is to say
	waiting  map[string]time.Time    // attachments that are to go but are in use, and since when
	notices  []notice
	again    time.Duration
}

func makePlan(in input) plan {
	p := plan{waiting: map[string]time.Time{}, forced: map[string]string{}}
	have := map[string]*storagev1.VolumeAttachment{}
	for _, a := range in.attachments {
		if a.Spec.NodeName == in.name {
			have[a.Name] = a
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.uses)) {
		u := in.uses[name]
		csi := u.volume.Spec.CSI
		id := attachmentName(csi.VolumeHandle, csi.Driver, in.name)
		if a := have[id]; a != nil {
			delete(have, id)
			p.keep(&in, u, a)
			continue
		}
		p.begin(&in, u, id)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		p.end(&in, have[name])
	}
	slices.SortFunc(p.attached, func(a, b corev1.AttachedVolume) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

func (p *plan) tell(u *use, kind, reason, message string) {
	for _, pod := range u.pods {
		p.notices = append(p.notices, notice{pod, kind, reason, message})
	}
}

// keep looks at an attachment that is wanted.
func (p *plan) keep(in *input, u *use, a *storagev1.VolumeAttachment) {
	csi := u.volume.Spec.CSI
	name := uniqueName(csi.Driver, csi.VolumeHandle)
	switch {
	case a.DeletionTimestamp != nil: // it's made anew once it has gone
	case a.Status.Attached:
		p.attached = append(p.attached, corev1.AttachedVolume{Name: name})
		if in.node != nil && !lists(in.node.Status.VolumesAttached, name) {
			p.tell(u, corev1.EventTypeNormal, "SuccessfulAttachVolume", fmt.Sprintf("AttachVolume.Attach succeeded for volume %q ", u.volume.Name))
		}
	case a.Status.AttachError != nil:
		p.tell(u, corev1.EventTypeWarning, "FailedAttachVolume", fmt.Sprintf("AttachVolume.Attach failed for volume %q : %s", u.volume.Name, a.Status.AttachError.Message))
	}
}

func lists(attached []corev1.AttachedVolume, name corev1.UniqueVolumeName) bool {
	return slices.ContainsFunc(attached, func(v corev1.AttachedVolume) bool { return v.Name == name })
}

// begin attaches a volume, unless another node has it for itself.
func (p *plan) begin(in *input, u *use, id string) {
	if in.node == nil {
		return
	}
	csi := u.volume.Spec.CSI
	elsewhere := slices.ContainsFunc(in.attachments, func(a *storagev1.VolumeAttachment) bool {
		return a.Spec.NodeName != in.name && a.Spec.Source.PersistentVolumeName != nil && *a.Spec.Source.PersistentVolumeName == u.volume.Name
	})
	if elsewhere && !shareable(u.volume) {
		others := in.podsElsewhere(u.volume)
		for _, pod := range u.pods {
			p.notices = append(p.notices, notice{pod, corev1.EventTypeWarning, "FailedAttachVolume",
				fmt.Sprintf("Multi-Attach error for volume %q %s", u.volume.Name, whoHasIt(pod, others))})
		}
		return
	}
	name := u.volume.Name
	p.attach = append(p.attach, &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: id},
		Spec:       storagev1.VolumeAttachmentSpec{NodeName: in.name, Attacher: csi.Driver, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}},
	})
}

// shareable tells whether several nodes may have a volume attached at a time.
func shareable(v *corev1.PersistentVolume) bool {
	return len(v.Spec.AccessModes) == 0 || slices.ContainsFunc(v.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteMany || m == corev1.ReadOnlyMany
	})
}

// whoHasIt tells a pod who keeps it from its volume; names of other namespaces are not for it to know.
func whoHasIt(pod *corev1.Pod, others []*corev1.Pod) string {
	if len(others) == 0 {
		return "Volume is already exclusively attached to one node and can't be attached to another"
	}
	var names []string
	foreign := 0
	for _, o := range others {
		if o.Namespace == pod.Namespace {
			names = append(names, o.Name)
			continue
		}
		foreign++
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf("Volume is already used by %d pod(s) in different namespaces", foreign)
	case foreign > 0:
		return fmt.Sprintf("Volume is already used by pod(s) %s and %d pod(s) in different namespaces", strings.Join(names, ", "), foreign)
	}
	return "Volume is already used by pod(s) " + strings.Join(names, ", ")
}

// end detaches a volume that no pod wants, unless the node still has it mounted.
func (p *plan) end(in *input, a *storagev1.VolumeAttachment) {
	if a.DeletionTimestamp != nil || a.Spec.Source.PersistentVolumeName == nil {
		return // on its way, or somebody else's
	}
	volume := in.volume(*a.Spec.Source.PersistentVolumeName)
	if volume == nil || volume.Spec.CSI == nil {
		if ours.MatchString(a.Name) {
			p.detach = append(p.detach, a)
		}
		return
	}
	csi := volume.Spec.CSI
	if a.Name != attachmentName(csi.VolumeHandle, csi.Driver, in.name) {
		return // not made by this controller
	}
	name := uniqueName(csi.Driver, csi.VolumeHandle)
	if in.node == nil || !slices.Contains(in.node.Status.VolumesInUse, name) || outOfService(in.node) {
		p.detach = append(p.detach, a)
		if in.node != nil && outOfService(in.node) {
			p.forced[a.Name] = forcedByTaint
		}
		return
	}
	since, ok := in.since[a.Name]
	if !ok {
		since = in.now
	}
	left := maxWaitForUnmount - in.now.Sub(since)
	if left <= 0 && !ready(in.node) {
		p.detach = append(p.detach, a)
		p.forced[a.Name] = forcedByTimeout
		return
	}
	p.waiting[a.Name] = since
	if a.Status.Attached {
		p.attached = append(p.attached, corev1.AttachedVolume{Name: name})
	}
	if left > 0 && (p.again == 0 || left < p.again) {
		p.again = left
	}
}

func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// terminated tells whether nothing of a pod runs, nor will.
func terminated(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return pod.DeletionTimestamp != nil && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated == nil && s.State.Waiting == nil
	})
}
