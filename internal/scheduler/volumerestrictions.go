package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// volumeRestrictions keeps two pods from using a disk on one node that only one can use, and a ReadWriteOncePod claim at all.
type volumeRestrictions struct{}

var (
	diskTaken  = &refusal{reasons: []string{"node(s) had no available disk"}}
	claimTaken = &refusal{reasons: []string{"node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"}}
)

func (volumeRestrictions) name() string { return "VolumeRestrictions" }

func (volumeRestrictions) compile(p *podInfo, c *cluster) *rule {
	var exclusive []*corev1.Volume
	var single []string
	for i := range p.pod.Spec.Volumes {
		v := &p.pod.Spec.Volumes[i]
		if isExclusive(v) {
			exclusive = append(exclusive, v)
		}
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		claim, ok := c.volumes.claims[claimKey(p.pod.Namespace, name)]
		if !ok {
			return &rule{reject: claimNotFound(name), wait: volumesChanged}
		}
		if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			single = append(single, claimKey(p.pod.Namespace, name))
		}
	}
	if len(exclusive) == 0 && len(single) == 0 {
		return nil
	}
	return &rule{
		wait: nodeAdded | podRemoved | volumesChanged,
		filter: func(slot int) *refusal {
			for _, v := range exclusive {
				for _, other := range c.nodes[slot].pods {
					if conflicts(v, other.pod) {
						return diskTaken
					}
				}
			}
			for _, key := range single {
				if c.volumes.users[key] > 0 {
					return claimTaken
				}
			}
			return nil
		},
	}
}

// isExclusive tells whether a volume is of a sort that pods on one node may not share.
func isExclusive(v *corev1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// conflicts tells whether a volume cannot be on a node with a pod.
func conflicts(v *corev1.Volume, with *corev1.Pod) bool {
	for i := range with.Spec.Volumes {
		other := &with.Spec.Volumes[i]
		if a, b := v.GCEPersistentDisk, other.GCEPersistentDisk; a != nil && b != nil && a.PDName == b.PDName && !(a.ReadOnly && b.ReadOnly) {
			return true
		}
		if a, b := v.AWSElasticBlockStore, other.AWSElasticBlockStore; a != nil && b != nil && a.VolumeID == b.VolumeID {
			return true
		}
		if a, b := v.ISCSI, other.ISCSI; a != nil && b != nil && a.IQN == b.IQN && !(a.ReadOnly && b.ReadOnly) {
			return true
		}
		if a, b := v.RBD, other.RBD; a != nil && b != nil && sameRBD(a, b) && !(a.ReadOnly && b.ReadOnly) {
			return true
		}
	}
	return false
}

func sameRBD(a, b *corev1.RBDVolumeSource) bool {
	return a.RBDPool == b.RBDPool && a.RBDImage == b.RBDImage &&
		slices.ContainsFunc(a.CephMonitors, func(m string) bool { return slices.Contains(b.CephMonitors, m) })
}
