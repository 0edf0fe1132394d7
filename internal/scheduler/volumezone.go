package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// volumeZone keeps a pod to the zones and regions that its volumes' labels name.
type volumeZone struct{}

var otherZone = &refusal{reasons: []string{"node(s) had no available volume zone"}, unresolvable: true}

// zoneLabels are the labels that place a volume, and what each was called later.
var zoneLabels = []struct{ key, stable string }{
	{corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyZone},
	{corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyRegion},
	{corev1.LabelTopologyZone, corev1.LabelTopologyZone},
	{corev1.LabelTopologyRegion, corev1.LabelTopologyRegion},
}

// zoneWish is a label that a node must have with one of the values.
type zoneWish struct {
	key, stable string
	values      []string
}

func (volumeZone) name() string { return "VolumeZone" }

func (volumeZone) compile(p *podInfo, c *cluster) *rule {
	const wait = nodeAdded | nodeLabels | volumesChanged
	var wishes []zoneWish
	for _, ref := range claimRefs(p.pod) {
		claim := c.volumes.claims[claimKey(p.pod.Namespace, ref.name)]
		// Claims that aren't there, or must be bound first, are VolumeBinding's to refuse.
		if ref.ephemeral || claim == nil || claim.Spec.VolumeName == "" {
			continue
		}
		volume := c.volumes.volumes[claim.Spec.VolumeName]
		if volume == nil {
			return &rule{reject: volumeNotFound(claim.Spec.VolumeName), wait: wait}
		}
		wishes = append(wishes, zonesOf(volume)...)
	}
	if len(wishes) == 0 {
		return nil
	}
	return &rule{
		wait: wait,
		filter: func(slot int) *refusal {
			if !inZones(c.nodes[slot].api.Labels, wishes) {
				return otherZone
			}
			return nil
		},
	}
}

// zonesOf reads a volume's labels. A label may name several, separated by two underscores.
func zonesOf(volume *corev1.PersistentVolume) []zoneWish {
	var out []zoneWish
	for _, l := range zoneLabels {
		value, ok := volume.Labels[l.key]
		if !ok {
			continue
		}
		values := strings.Split(value, "__")
		for i := range values {
			values[i] = strings.TrimSpace(values[i])
		}
		if !slices.Contains(values, "") {
			out = append(out, zoneWish{l.key, l.stable, values})
		}
	}
	return out
}

func inZones(node map[string]string, wishes []zoneWish) bool {
	placed := false
	for _, l := range zoneLabels {
		_, has := node[l.key]
		placed = placed || has
	}
	if !placed {
		return true // A cluster without zones.
	}
	for _, w := range wishes {
		value, ok := node[w.key]
		if !ok {
			value, ok = node[w.stable]
		}
		if !ok || !slices.Contains(w.values, value) {
			return false
		}
	}
	return true
}
