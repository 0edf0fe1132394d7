package proxy

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// families are the values of upstream's label: there each family has a proxier of its own. One Sync here is both families'.
var families = [...]string{"IPv4", "IPv6"}

// Metrics are the proxy's, by upstream's names. A nil *Metrics is silent.
type Metrics struct {
	duration, full, partial, programming *prometheus.HistogramVec
	last, queued                         *prometheus.GaugeVec
	failures                             *prometheus.CounterVec
	endpointChanges, serviceChanges      prometheus.Counter
	conntrackTime                        *prometheus.HistogramVec
	conntrackDeleted                     *prometheus.CounterVec

	pendingEndpoints, pendingServices atomic.Int64
	model                             atomic.Pointer[Model]
}

// NewMetrics registers the proxy's metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubeproxy_" + name, Help: help, Buckets: buckets}, []string{"ip_family"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, []string{"ip_family"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_" + name, Help: help}, []string{"ip_family"})
	}
	times := prometheus.ExponentialBuckets(0.001, 2, 15)
	m := &Metrics{
		duration:    histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", times),
		full:        histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", times),
		partial:     histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", times),
		programming: histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programmingBuckets()),
		last:        gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced"),
		queued:      gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued"),
		failures:    counter("sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
		endpointChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubeproxy_sync_proxy_rules_endpoint_changes_total", Help: "Cumulative proxy rules Endpoint changes",
		}),
		serviceChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubeproxy_sync_proxy_rules_service_changes_total", Help: "Cumulative proxy rules Service changes",
		}),
		conntrackTime:    histogram("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", times),
		conntrackDeleted: counter("conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler"),
	}
	pending := func(name, help string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	for _, c := range []prometheus.Collector{
		m.duration, m.full, m.partial, m.programming, m.last, m.queued, m.failures, m.endpointChanges, m.serviceChanges, m.conntrackTime, m.conntrackDeleted,
		pending("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes", &m.pendingEndpoints),
		pending("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes", &m.pendingServices),
		withoutLocal{m},
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the proxy's metrics: %w", err)
		}
	}
	return m, nil
}

// programmingBuckets get coarser as the seconds grow.
func programmingBuckets() []float64 {
	buckets := []float64{0, .25, .5}
	for s := 1; s <= 59; s++ {
		buckets = append(buckets, float64(s))
	}
	for s := 60; s < 120; s += 5 {
		buckets = append(buckets, float64(s))
	}
	for s := 120; s <= 300; s += 30 {
		buckets = append(buckets, float64(s))
	}
	return buckets
}

// follow makes a model the one that pages are made from.
func (m *Metrics) follow(model *Model) {
	if m != nil {
		m.model.Store(model)
	}
}

// woken notes that the model has something to sync.
func (m *Metrics) woken() {
	if m == nil {
		return
	}
	for _, f := range families {
		m.queued.WithLabelValues(f).SetToCurrentTime()
	}
}

// taken notes that a sync begins with all changes up to now.
func (m *Metrics) taken() {
	if m != nil {
		m.pendingEndpoints.Store(0)
		m.pendingServices.Store(0)
	}
}

// synced notes a sync: one of everything, or of what had changed.
func (m *Metrics) synced(took time.Duration, everything bool, err error) {
	if m == nil {
		return
	}
	for _, f := range families {
		m.duration.WithLabelValues(f).Observe(took.Seconds())
		extent := m.partial
		if everything {
			extent = m.full
		}
		extent.WithLabelValues(f).Observe(took.Seconds())
		if err != nil {
			m.failures.WithLabelValues(f).Inc()
			continue
		}
		m.last.WithLabelValues(f).SetToCurrentTime()
	}
}

// programmed notes that what an endpoint's change meant is in effect.
func (m *Metrics) programmed(ipv6 bool, after time.Duration) {
	if m != nil {
		m.programming.WithLabelValues(family(ipv6)).Observe(after.Seconds())
	}
}

// forgot notes that the kernel was made to forget connections.
func (m *Metrics) forgot(ipv6 bool, connections uint, took time.Duration) {
	if m != nil {
		m.conntrackTime.WithLabelValues(family(ipv6)).Observe(took.Seconds())
		m.conntrackDeleted.WithLabelValues(family(ipv6)).Add(float64(connections))
	}
}

func family(ipv6 bool) string {
	if ipv6 {
		return families[1]
	}
	return families[0]
}

func (m *Metrics) endpointChange() {
	if m != nil {
		m.endpointChanges.Inc()
		m.pendingEndpoints.Add(1)
	}
}

func (m *Metrics) serviceChange() {
	if m != nil {
		m.serviceChanges.Inc()
		m.pendingServices.Add(1)
	}
}

// withoutLocal counts the ports whose traffic is to stay on the node, where they have no endpoint.
type withoutLocal struct{ m *Metrics }

var withoutLocalDesc = prometheus.NewDesc("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "Number of services with a Local traffic policy and no endpoints",
	[]string{"traffic_policy", "ip_family"}, nil)

// Describe implements prometheus.Collector.
func (withoutLocal) Describe(out chan<- *prometheus.Desc) { out <- withoutLocalDesc }

// Collect implements prometheus.Collector.
func (c withoutLocal) Collect(out chan<- prometheus.Metric) {
	model := c.m.model.Load()
	if model == nil {
		return
	}
	internal, external := model.withoutLocal()
	for i, f := range families {
		out <- prometheus.MustNewConstMetric(withoutLocalDesc, prometheus.GaugeValue, float64(internal[i]), "internal", f)
		out <- prometheus.MustNewConstMetric(withoutLocalDesc, prometheus.GaugeValue, float64(external[i]), "external", f)
	}
}
