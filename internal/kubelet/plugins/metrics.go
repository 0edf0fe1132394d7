package plugins

import "github.com/prometheus/client_golang/prometheus"

var totalDesc = prometheus.NewDesc("plugin_manager_total_plugins", "Number of plugins in Plugin Manager", []string{"socket_path", "state"}, nil)

// publish notes what the last look has found, for pages of metrics: which plugins are registered, by their sockets.
func (r *Registry) publish() {
	if len(r.known) == 0 && r.found.Load() == nil {
		return
	}
	registered := make(map[string]bool, len(r.known))
	for path, p := range r.known {
		registered[path] = p.registered
	}
	r.found.Store(&registered)
}

// Describe implements prometheus.Collector.
func (r *Registry) Describe(out chan<- *prometheus.Desc) { out <- totalDesc }

// Collect implements prometheus.Collector.
func (r *Registry) Collect(out chan<- prometheus.Metric) {
	found := r.found.Load()
	if found == nil {
		return
	}
	for path, registered := range *found {
		out <- prometheus.MustNewConstMetric(totalDesc, prometheus.GaugeValue, 1, path, "desired_state_of_world")
		if registered {
			out <- prometheus.MustNewConstMetric(totalDesc, prometheus.GaugeValue, 1, path, "actual_state_of_world")
		}
	}
}
