package device

import (
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// absence is how long a resource outlives its plugin, so that a plugin can be replaced.
const absence = 5 * time.Minute

// kind is one resource, as example.com/device.
type kind struct {
	devices map[string]*pluginapi.Device // as listed last
	plugin  *plugin                      // nil while none is connected
	listed  bool                         // by this plugin
	lost    time.Time                    // when there was a plugin last
	// preStart tells that the plugin, or the last one, wants to know of each start of a container.
	preStart bool
}

// healthy returns the devices that can be given.
func (k *kind) healthy() sets.Set[string] {
	out := sets.New[string]()
	if k.plugin == nil || !k.listed {
		return out
	}
	for id, d := range k.devices {
		if d.Health == pluginapi.Healthy {
			out.Insert(id)
		}
	}
	return out
}

// placed tells whether any of the devices is near a NUMA node.
func (k *kind) placed() bool {
	for _, d := range k.devices {
		if len(d.GetTopology().GetNodes()) > 0 {
			return true
		}
	}
	return false
}

// near returns the nodes that a device is near.
func (k *kind) near(id string) topology.Mask {
	var m topology.Mask
	for _, n := range k.devices[id].GetTopology().GetNodes() {
		m |= topology.MaskOf(int(n.ID))
	}
	return m
}

// byNode sorts devices by the nodes that they are near.
func (k *kind) byNode(ids sets.Set[string]) perNUMA {
	out := perNUMA{}
	for _, id := range sets.List(ids) {
		nodes := k.devices[id].GetTopology().GetNodes()
		if len(nodes) == 0 {
			out[nowhere] = append(out[nowhere], id)
		}
		for _, n := range nodes {
			out[n.ID] = append(out[n.ID], id)
		}
	}
	return out
}

// count is how many of some devices are near one of some nodes.
func (k *kind) count(ids sets.Set[string], nodes topology.Mask) int {
	n := 0
	for id := range ids {
		if k.near(id)&nodes != 0 {
			n++
		}
	}
	return n
}
