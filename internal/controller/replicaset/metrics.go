package replicaset

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// newAges makes upstream's metric of which pods go first.
func newAges() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: "replicaset_controller", Name: "sorting_deletion_age_ratio",
		Help: "The ratio of chosen deleted pod's ages to the current youngest pod's age (at the time). Should be <2. " +
			"The intent of this metric is to measure the rough efficacy of the LogarithmicScaleDown feature gate's effect on " +
			"the sorting (and deletion) of pods when a replicaset scales down. This only considers Ready pods when calculating and reporting.",
		Buckets: prometheus.ExponentialBuckets(0.25, 2, 6),
	})
}

// ageRatios tells how much older the chosen are than the youngest of all, of those that are ready. Where all of them go nothing is chosen.
func ageRatios(active, chosen []*corev1.Pod, now time.Time) []float64 {
	if len(chosen) == len(active) {
		return nil
	}
	var youngest time.Time
	for _, pod := range active {
		if podcontrol.Ready(pod) && pod.CreationTimestamp.After(youngest) {
			youngest = pod.CreationTimestamp.Time
		}
	}
	least := now.Sub(youngest).Milliseconds()
	var out []float64
	for _, pod := range chosen {
		if podcontrol.Ready(pod) && least > 0 {
			out = append(out, float64(now.Sub(pod.CreationTimestamp.Time).Milliseconds()/least)) // whole numbers, as upstream's
		}
	}
	return out
}
