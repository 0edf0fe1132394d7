package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

// volumeBinding keeps a pod to the nodes that its volumes can be reached from, and finds or orders volumes for claims that wait for
// their first consumer. Those are asked for before the pod is bound: see core.prepare.
type volumeBinding struct{}

const (
	unreachable    = "node(s) didn't match PersistentVolume's node affinity"
	noneAvailable  = "node(s) didn't find available persistent volumes to bind"
	notEnoughSpace = "node(s) did not have enough free storage"
)

func (volumeBinding) name() string { return "VolumeBinding" }

func (volumeBinding) compile(p *podInfo, c *cluster) *rule {
	claims, wrong := c.volumes.sortClaims(p.pod)
	r := &rule{wait: nodeAdded | nodeLabels | volumesChanged, reject: wrong}
	if wrong == "" {
		if claims == nil {
			return nil
		}
		r.filter = func(slot int) *refusal {
			_, no := c.volumes.plan(claims, c.nodes[slot].api)
			return no
		}
	}
	return r
}

// podClaims are a pod's claims by what is to be done about them.
type podClaims struct {
	bound   []*corev1.PersistentVolumeClaim
	unbound []*corev1.PersistentVolumeClaim // they wait for their first consumer; the smallest first
}

// sortClaims returns a pod's claims, nil if there are none; or why no node will do.
func (v *volumes) sortClaims(pod *corev1.Pod) (*podClaims, string) {
	refs := claimRefs(pod)
	if len(refs) == 0 {
		return nil, ""
	}
	out := &podClaims{}
	immediate := false
	for _, ref := range refs {
		claim := v.claims[claimKey(pod.Namespace, ref.name)]
		if wrong := unusable(pod, ref, claim); wrong != "" {
			return nil, wrong
		}
		switch {
		case bound(claim):
			out.bound = append(out.bound, claim)
		case v.waitsForConsumer(claim) && claim.Spec.VolumeName == "":
			out.unbound = append(out.unbound, claim)
		default:
			immediate = true
		}
	}
	if immediate {
		return nil, "pod has unbound immediate PersistentVolumeClaims"
	}
	slices.SortStableFunc(out.unbound, func(a, b *corev1.PersistentVolumeClaim) int {
		return cmp.Compare(claimSize(a), claimSize(b))
	})
	return out, ""
}

func claimSize(c *corev1.PersistentVolumeClaim) int64 {
	q := c.Spec.Resources.Requests[corev1.ResourceStorage]
	return q.Value()
}

// unusable says why a pod can't use a claim wherever it runs; "" if it can.
func unusable(pod *corev1.Pod, ref claimRef, claim *corev1.PersistentVolumeClaim) string {
	switch {
	case claim == nil && ref.ephemeral:
		return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", ref.name)
	case claim == nil:
		return claimNotFound(ref.name)
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName)
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf("persistentvolumeclaim %q is being deleted", claim.Name)
	}
	if ref.ephemeral {
		if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
			return err.Error()
		}
	}
	return ""
}

// volumePlan is what must be written before a pod's claims are bound on a node.
type volumePlan struct {
	volumes []*corev1.PersistentVolume      // bound to claims
	claims  []*corev1.PersistentVolumeClaim // for which a volume is to be made for this node
	waits   bool                            // there are claims that aren't bound yet
}

// plan says how a pod's claims would be bound if it ran on a node, or why they can't.
func (v *volumes) plan(claims *podClaims, node *corev1.Node) (volumePlan, *refusal) {
	for _, claim := range claims.bound {
		volume := v.volumes[claim.Spec.VolumeName]
		if volume == nil {
			return volumePlan{}, volumeRefusal("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
		}
		if volumehelpers.CheckNodeAffinity(volume, node.Labels) != nil {
			return volumePlan{}, volumeRefusal(unreachable)
		}
	}
	plan := volumePlan{waits: len(claims.unbound) > 0}
	chosen := map[string]*corev1.PersistentVolume{}
	var provision []*corev1.PersistentVolumeClaim
	for _, claim := range claims.unbound {
		if selected, ok := claim.Annotations[volumehelpers.AnnSelectedNode]; ok {
			if selected != node.Name {
				return plan, volumeRefusal(noneAvailable)
			}
			provision = append(provision, claim)
			continue
		}
		found, err := volumehelpers.FindMatchingVolume(claim, v.ofClass(volumehelpers.GetPersistentVolumeClaimClass(claim)), node, chosen, true, true)
		if err != nil {
			return plan, volumeRefusal(noneAvailable)
		}
		if found == nil {
			provision = append(provision, claim)
			continue
		}
		chosen[found.Name] = found
		if changed, dirty, err := volumehelpers.GetBindVolumeToClaim(found, claim); err == nil && dirty {
			plan.volumes = append(plan.volumes, changed)
		}
	}
	return plan, v.planProvisions(&plan, provision, node)
}

func (v *volumes) planProvisions(plan *volumePlan, provision []*corev1.PersistentVolumeClaim, node *corev1.Node) *refusal {
	for _, claim := range provision {
		class := v.classes[volumehelpers.GetPersistentVolumeClaimClass(claim)]
		if class.Provisioner == "" || class.Provisioner == volumehelpers.NotSupportedProvisioner || !topologyAllows(class, node) {
			return volumeRefusal(noneAvailable)
		}
		if !v.hasRoom(claim, class, node) {
			return volumeRefusal(notEnoughSpace)
		}
		if _, ordered := claim.Annotations[volumehelpers.AnnSelectedNode]; !ordered {
			ordered := claim.DeepCopy()
			metav1.SetMetaDataAnnotation(&ordered.ObjectMeta, volumehelpers.AnnSelectedNode, node.Name)
			plan.claims = append(plan.claims, ordered)
		}
	}
	return nil
}

func volumeRefusal(reason string) *refusal {
	return &refusal{reasons: []string{reason}, unresolvable: true}
}

func (v *volumes) ofClass(class string) []*corev1.PersistentVolume {
	var out []*corev1.PersistentVolume
	for _, volume := range v.volumes {
		if volumehelpers.GetPersistentVolumeClass(volume) == class {
			out = append(out, volume)
		}
	}
	return out
}

// topologyAllows tells whether volumes of a class can be made for a node.
func topologyAllows(class *storagev1.StorageClass, node *corev1.Node) bool {
	if len(class.AllowedTopologies) == 0 {
		return true
	}
	return slices.ContainsFunc(class.AllowedTopologies, func(term corev1.TopologySelectorTerm) bool {
		for _, e := range term.MatchLabelExpressions {
			value, ok := node.Labels[e.Key]
			if !ok || !slices.Contains(e.Values, value) {
				return false
			}
		}
		return len(term.MatchLabelExpressions) > 0
	})
}

// hasRoom tells whether a driver that publishes its capacity has enough for a claim near a node.
func (v *volumes) hasRoom(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) bool {
	size, sized := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	driver := v.drivers[class.Provisioner]
	if !sized || driver == nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true
	}
	for _, c := range v.capacities {
		room := c.MaximumVolumeSize
		if room == nil {
			room = c.Capacity
		}
		if c.StorageClassName != class.Name || room == nil || room.Cmp(size) < 0 || c.NodeTopology == nil {
			continue
		}
		if parsedSelector(c.NodeTopology).Matches(labels.Set(node.Labels)) {
			return true
		}
	}
	return false
}

// assume takes a plan as carried out, until the objects are told of anew. It returns how to take that back.
func (v *volumes) assume(plan volumePlan) (revert func()) {
	var undo []func()
	for _, assumed := range plan.volumes {
		before := v.volumes[assumed.Name]
		v.volumes[assumed.Name] = assumed
		undo = append(undo, func() {
			if v.volumes[assumed.Name] == assumed {
				v.volumes[assumed.Name] = before
			}
		})
	}
	for _, assumed := range plan.claims {
		key := claimKey(assumed.Namespace, assumed.Name)
		before := v.claims[key]
		v.claims[key] = assumed
		undo = append(undo, func() {
			if v.claims[key] == assumed {
				v.claims[key] = before
			}
		})
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}
