package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

// volumeLimits keeps the volumes of a CSI driver on a node within what the driver says the node can have.
type volumeLimits struct{}

var tooManyVolumes = &refusal{reasons: []string{"node(s) exceed max volume count"}}

func (volumeLimits) name() string { return "NodeVolumeLimits" }

func (volumeLimits) compile(p *podInfo, c *cluster) *rule {
	if len(claimRefs(p.pod)) == 0 {
		return nil
	}
	wanted := c.volumes.attachable(p.pod)
	if len(wanted) == 0 {
		return nil
	}
	return &rule{
		wait:   nodeAdded | podRemoved | volumesChanged,
		filter: func(slot int) *refusal { return c.overLimit(wanted, slot) },
	}
}

// overLimit counts what a node has and would get, each volume once.
func (c *cluster) overLimit(wanted map[string]string, slot int) *refusal {
	n := c.nodes[slot]
	limits := c.volumes.limits(n.api.Name)
	if len(limits) == 0 {
		return nil
	}
	have := c.volumes.attachedTo(n.api.Name)
	for _, p := range n.pods {
		for id, driver := range c.volumes.attachable(p.pod) {
			have[id] = driver
		}
	}
	counts := map[string]int32{}
	for _, driver := range have {
		counts[driver]++
	}
	more := map[string]int32{}
	for id, driver := range wanted {
		if _, there := have[id]; !there {
			more[driver]++
		}
	}
	for driver, n := range more {
		if limit, ok := limits[driver]; ok && counts[driver]+n > limit {
			return tooManyVolumes
		}
	}
	return nil
}

// limits returns how many volumes of each driver a node can have, as far as that is limited.
func (v *volumes) limits(node string) map[string]int32 {
	csi := v.csiNodes[node]
	if csi == nil {
		return nil
	}
	out := map[string]int32{}
	for _, d := range csi.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			out[d.Name] = *d.Allocatable.Count
		}
	}
	return out
}

// attachable names the CSI volumes of a pod, with their drivers. A volume that is yet to be made goes by its claim.
func (v *volumes) attachable(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, ref := range claimRefs(pod) {
		claim := v.claims[claimKey(pod.Namespace, ref.name)]
		if claim == nil || ref.ephemeral && ephemeral.VolumeIsForPod(pod, claim) != nil {
			continue
		}
		if volume := v.volumes[claim.Spec.VolumeName]; volume != nil {
			if csi := volume.Spec.CSI; csi != nil && csi.VolumeHandle != "" {
				out[csi.Driver+"/"+csi.VolumeHandle] = csi.Driver
			}
			continue
		}
		if class := v.classes[volumehelpers.GetPersistentVolumeClaimClass(claim)]; class != nil && class.Provisioner != "" {
			out[class.Provisioner+"/ "+claimKey(claim.Namespace, claim.Name)] = class.Provisioner
		}
	}
	return out
}

// attachedTo names the volumes that are attached to a node, whether pods use them or not.
func (v *volumes) attachedTo(node string) map[string]string {
	out := map[string]string{}
	for _, a := range v.attachments {
		if a.Spec.NodeName != node || a.Spec.Attacher == "" || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if volume := v.volumes[*a.Spec.Source.PersistentVolumeName]; volume != nil && volume.Spec.CSI != nil {
			out[a.Spec.Attacher+"/"+volume.Spec.CSI.VolumeHandle] = a.Spec.Attacher
		}
	}
	return out
}
