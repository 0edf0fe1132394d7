package attachdetach

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/client"
)

// Why a volume is detached that its node may still have mounted.
const (
	forcedByTimeout = "timeout"
	forcedByTaint   = "out-of-service"
)

// collector shows upstream's metrics of attachable volumes: what pods want of each node, as it was at the last look at it, and what is attached when
// somebody asks.
type collector struct {
	attachments    client.TypedView[*storagev1.VolumeAttachment]
	volumes, inUse *prometheus.Desc
	forced         *prometheus.CounterVec

	mu     sync.Mutex
	wanted map[string]demand // by node
}

// demand counts volumes by their plugin: those to attach to a node, and those that its pods name, each time.
type demand struct {
	attach, inUse map[string]int
}

func newCollector() *collector {
	return &collector{
		volumes: prometheus.NewDesc("attachdetach_controller_total_volumes", "Number of volumes in A/D Controller", []string{"plugin_name", "state"}, nil),
		inUse:   prometheus.NewDesc("storage_count_attachable_volumes_in_use", "Measure number of volumes in use", []string{"node", "volume_plugin"}, nil),
		forced: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: "attach_detach_controller", Name: "attachdetach_controller_forced_detaches",
			Help: "Number of times the A/D Controller performed a forced detach"}, []string{"reason"}),
		wanted: map[string]demand{},
	}
}

// pluginOf names what attaches a driver's volumes.
func pluginOf(driver string) string { return "kubernetes.io/csi:" + driver }

// want notes what a node's pods want.
func (c *collector) want(node string, d demand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(d.inUse) == 0 {
		delete(c.wanted, node)
		return
	}
	c.wanted[node] = d
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.volumes
	out <- c.inUse
	c.forced.Describe(out)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.collect(out, c.attachments.List("", nil))
}

func (c *collector) collect(out chan<- prometheus.Metric, attachments []*storagev1.VolumeAttachment) {
	c.forced.Collect(out)
	c.mu.Lock()
	wanted := maps.Clone(c.wanted)
	c.mu.Unlock()
	attach, attached := map[string]int{}, map[string]int{}
	for node, d := range wanted {
		for plugin, n := range d.attach {
			attach[plugin] += n
		}
		for plugin, n := range d.inUse {
			out <- prometheus.MustNewConstMetric(c.inUse, prometheus.GaugeValue, float64(n), node, plugin)
		}
	}
	for _, a := range attachments {
		if a.Status.Attached {
			attached[pluginOf(a.Spec.Attacher)]++
		}
	}
	for state, count := range map[string]map[string]int{"desired_state_of_world": attach, "actual_state_of_world": attached} {
		for plugin, n := range count {
			out <- prometheus.MustNewConstMetric(c.volumes, prometheus.GaugeValue, float64(n), plugin, state)
		}
	}
}
