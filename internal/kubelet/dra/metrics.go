package dra

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are upstream's, by name and label.
type metrics struct {
	operations *prometheus.HistogramVec
	calls      *prometheus.HistogramVec
	claims     *claims
}

var inUse = prometheus.NewDesc("dra_resource_claims_in_use",
	"The number of ResourceClaims that are currently in use on the node, by driver name (driver_name label value) and across all drivers (special value <any> for driver_name). "+
		"Note that the sum of all by-driver counts is not the total number of in-use ResourceClaims because the same ResourceClaim might use devices from different drivers. "+
		"Instead, use the count for the <any> driver_name.", []string{"driver_name"}, nil)

func newMetrics(r prometheus.Registerer, c *claims) (*metrics, error) {
	buckets := prometheus.ExponentialBucketsRange(.1, 40, 15)
	m := &metrics{
		claims: c,
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dra_operations_duration_seconds", Buckets: buckets,
			Help: "Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod starts or stops. " +
				"Identified by the name of the operation (PrepareResources or UnprepareResources) and separated by the success of the operation. " +
				"The number of failed operations is provided through the histogram's overall count.",
		}, []string{"operation_name", "is_error"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dra_grpc_operations_duration_seconds", Help: "Duration in seconds of the DRA gRPC operations", Buckets: buckets,
		}, []string{"driver_name", "method_name", "grpc_status_code"}),
	}
	if err := r.Register(m); err != nil {
		return nil, fmt.Errorf("register the metrics of claims: %w", err)
	}
	return m, nil
}

func (m *metrics) operation(name string, begun time.Time, err error) {
	m.operations.WithLabelValues(name, strconv.FormatBool(err != nil)).Observe(time.Since(begun).Seconds())
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.operations.Describe(ch)
	m.calls.Describe(ch)
	ch <- inUse
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.operations.Collect(ch)
	m.calls.Collect(ch)
	counts := map[string]int{}
	m.claims.read(func(all map[string]*Claim) {
		counts["<any>"] = len(all)
		for _, c := range all {
			for driver := range c.DriverState {
				counts[driver]++
			}
		}
	})
	for driver, n := range counts {
		ch <- prometheus.MustNewConstMetric(inUse, prometheus.GaugeValue, float64(n), driver)
	}
}
