package expression

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	compilations = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "apiserver_cel_compilation_duration_seconds", Help: "CEL compilation time in seconds."})
	evaluations  = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "apiserver_cel_evaluation_duration_seconds", Help: "CEL evaluation time in seconds."})
)

// Metrics tell how long expressions take to compile and to evaluate, in the whole process.
func Metrics() []prometheus.Collector { return []prometheus.Collector{compilations, evaluations} }

func observe(h prometheus.Histogram, began time.Time) { h.Observe(time.Since(began).Seconds()) }
