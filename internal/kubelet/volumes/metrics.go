package volumes

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// Metrics are about what is done with volumes, under upstream's names. A nil *Metrics is silent.
type Metrics struct {
	steps *prometheus.HistogramVec
	whole *prometheus.HistogramVec
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	times := []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600}
	m := &Metrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "storage_operation_duration_seconds", Help: "Storage operation duration", Buckets: times,
		}, []string{"volume_plugin", "operation_name", "status", "migrated"}),
		whole: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "volume_operation_total_seconds", Help: "Storage operation end to end duration in seconds", Buckets: times,
		}, []string{"plugin_name", "operation_name"}),
	}
	r.MustRegister(m.steps, m.whole)
	return m
}

// done notes how an operation of a plugin ended. What failed is tried anew: it isn't a whole operation.
func (m *Metrics) done(operation, plugin string, began time.Time, err error) {
	if m == nil {
		return
	}
	took, status := time.Since(began).Seconds(), "success"
	if err != nil {
		status = "fail-unknown"
	} else {
		m.whole.WithLabelValues(plugin, "overall_"+operation).Observe(took)
	}
	m.steps.WithLabelValues(plugin, operation, status, "false").Observe(took)
}

var totalDesc = prometheus.NewDesc("volume_manager_total_volumes", "Number of volumes in Volume Manager", []string{"plugin_name", "state"}, nil)

// Totals collects how many volumes there are, and how many there should be: those of the pods that a function lists.
type Totals struct {
	Manager *Manager
	Pods    func() []*corev1.Pod
}

// Describe implements prometheus.Collector.
func (t *Totals) Describe(out chan<- *prometheus.Desc) { out <- totalDesc }

// Collect implements prometheus.Collector.
func (t *Totals) Collect(out chan<- prometheus.Metric) {
	show := func(state string, byPlugin map[string]int) {
		for plugin, n := range byPlugin {
			out <- prometheus.MustNewConstMetric(totalDesc, prometheus.GaugeValue, float64(n), plugin, state)
		}
	}
	show("actual_state_of_world", t.Manager.count())
	show("desired_state_of_world", t.Manager.desired(t.Pods()))
}

// count returns how many volumes are there, by plugin.
func (m *Manager) count() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[string]int{}
	for _, placed := range m.placed {
		for _, p := range placed {
			n[p.Plugin]++
		}
	}
	return n
}

// desired returns how many volumes pods ask for, by plugin.
func (m *Manager) desired(pods []*corev1.Pod) map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[string]int{}
	for _, pod := range pods {
		for i := range pod.Spec.Volumes {
			if v := &pod.Spec.Volumes[i]; used(pod, v.Name) {
				n[m.pluginOf(pod, v)]++
			}
		}
	}
	return n
}

// pluginOf names a volume's plugin, "unknown" for a claim whose volume nobody has looked for yet. The lock is held.
func (m *Manager) pluginOf(pod *corev1.Pod, v *corev1.Volume) string {
	if p, there := m.placed[pod.UID][v.Name]; there {
		return p.Plugin
	}
	i := slices.IndexFunc(m.cfg.Plugins, func(p Plugin) bool { return p.Supports(&Source{Volume: v}) })
	if i < 0 {
		return "unknown"
	}
	return m.cfg.Plugins[i].Name()
}
