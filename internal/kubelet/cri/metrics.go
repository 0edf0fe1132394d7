package cri

import (
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Metrics count the runtime's calls, under the names of upstream's kubelet.
type Metrics struct {
	operations map[string]string // by method
	calls      *prometheus.CounterVec
	errors     *prometheus.CounterVec
	took       *prometheus.HistogramVec

	sandboxErrors *prometheus.CounterVec
	sandboxTook   *prometheus.HistogramVec

	list, interval, observe prometheus.Histogram
	seen                    prometheus.Gauge
	streams, streamErrors   prometheus.Counter
	eventAge                prometheus.Histogram
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	histogram := func(name, help, label string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	}
	plain := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.DefBuckets})
	}
	m := &Metrics{
		operations: operations(),
		calls:      counter("kubelet_runtime_operations_total", "Cumulative number of runtime operations by operation type.", "operation_type"),
		errors:     counter("kubelet_runtime_operations_errors_total", "Cumulative number of runtime operation errors by operation type.", "operation_type"),
		took: histogram("kubelet_runtime_operations_duration_seconds", "Duration in seconds of runtime operations. Broken down by operation type.", "operation_type",
			prometheus.ExponentialBuckets(.005, 2.5, 14)),
		sandboxErrors: counter("kubelet_run_podsandbox_errors_total", "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.", "runtime_handler"),
		sandboxTook: histogram("kubelet_run_podsandbox_duration_seconds", "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.", "runtime_handler",
			prometheus.DefBuckets),
		list:     plain("kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG."),
		interval: plain("kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG."),
		observe:  plain("kubelet_pleg_pod_relist_duration_seconds", "Duration in seconds for relisting a single pod in PLEG."),
		seen:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubelet_pleg_last_seen_seconds", Help: "Timestamp in seconds when PLEG was last seen active."}),
		streams: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_evented_pleg_connection_success_count", Help: "The number of times a streaming client was obtained to receive CRI Events.",
		}),
		streamErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_evented_pleg_connection_error_count", Help: "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
		}),
		eventAge: plain("kubelet_evented_pleg_connection_latency_seconds", "The latency of streaming connection with the CRI runtime, measured in seconds."),
	}
	r.MustRegister(m.calls, m.errors, m.took, m.sandboxErrors, m.sandboxTook, m.list, m.interval, m.observe, m.seen, m.streams, m.streamErrors, m.eventAge)
	return m
}

// operations names the calls as upstream does.
func operations() map[string]string {
	out := map[string]string{}
	for _, service := range []grpc.ServiceDesc{runtimeapi.RuntimeService_ServiceDesc, runtimeapi.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			out["/"+service.ServiceName+"/"+m.MethodName] = operation(m.MethodName)
		}
		for _, s := range service.Streams {
			out["/"+service.ServiceName+"/"+s.StreamName] = operation(s.StreamName)
		}
	}
	return out
}

func operation(method string) string {
	if method == "UpdateContainerResources" {
		return "update_container"
	}
	var b strings.Builder
	for i, r := range strings.ReplaceAll(method, "PodSandbox", "Podsandbox") {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// count counts a call that is over.
func (m *Metrics) count(method string, request any, took time.Duration, err error) {
	name := m.operations[method]
	m.calls.WithLabelValues(name).Inc()
	m.took.WithLabelValues(name).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(name).Inc()
	}
	if r, ok := request.(*runtimeapi.RunPodSandboxRequest); ok {
		m.sandboxTook.WithLabelValues(r.RuntimeHandler).Observe(took.Seconds())
		if err != nil {
			m.sandboxErrors.WithLabelValues(r.RuntimeHandler).Inc()
		}
	}
}

// listed notes a list of all pods, and how long after the former one it began.
func (m *Metrics) listed(began, former time.Time) {
	m.list.Observe(time.Since(began).Seconds())
	if !former.IsZero() {
		m.interval.Observe(began.Sub(former).Seconds())
	}
	m.seen.Set(float64(began.Unix()))
}

// streamed notes whether the runtime's events could be asked for.
func (m *Metrics) streamed(err error) {
	if err != nil {
		m.streamErrors.Inc()
		return
	}
	m.streams.Inc()
}

// event notes an event, by when the runtime made it.
func (m *Metrics) event(createdAt int64) {
	made := time.Unix(0, createdAt)
	m.eventAge.Observe(time.Since(made).Seconds())
	m.seen.Set(float64(made.Unix()))
}
