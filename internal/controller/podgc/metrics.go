package podgc

import "github.com/prometheus/client_golang/prometheus"

// metrics are upstream's, by name and labels.
type metrics struct{ removed, failed *prometheus.CounterVec }

func newMetrics() metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: "pod_gc_collector", Name: name, Help: help}, []string{"namespace", "reason"})
	}
	return metrics{
		removed: counter("force_delete_pods_total", "Number of pods that are being forcefully deleted since the Pod GC Controller started."),
		failed:  counter("force_delete_pod_errors_total", "Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started."),
	}
}

// reasonEnded is why pods are removed that have ended and are too many.
const reasonEnded = "terminated"

// reasons are why others are.
var reasons = map[verdict]string{unbound: "unscheduled", stranded: "out-of-service", orphaned: "orphaned"}

// count notes what came of removing a pod.
func (m metrics) count(namespace, reason string, err error) {
	if err != nil {
		m.failed.WithLabelValues(namespace, reason).Inc()
		return
	}
	m.removed.WithLabelValues(namespace, reason).Inc()
}
