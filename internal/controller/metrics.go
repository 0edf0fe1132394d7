package controller

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the workqueue_* metrics of all queues, under upstream's names. One value serves all runs of a process.
type Metrics struct {
	adds, retries *prometheus.CounterVec
	wait, work    *prometheus.HistogramVec

	leads prometheus.Gauge

	mu     sync.Mutex
	queues map[*queue]string
}

var (
	depthDesc = prometheus.NewDesc("workqueue_depth",
		"Current depth of workqueue", []string{"name"}, nil)
	unfinishedDesc = prometheus.NewDesc("workqueue_unfinished_work_seconds",
		"How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. "+
			"One can deduce the number of stuck threads by observing the rate at which this increases.", []string{"name"}, nil)
	longestDesc = prometheus.NewDesc("workqueue_longest_running_processor_seconds",
		"How many seconds has the longest running processor for workqueue been running.", []string{"name"}, nil)
)

// NewMetrics returns metrics to register with a prometheus.Registerer.
func NewMetrics() *Metrics {
	buckets := prometheus.ExponentialBuckets(10e-9, 10, 10)
	return &Metrics{
		adds: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_adds_total",
			Help: "Total number of adds handled by workqueue"}, []string{"name"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_retries_total",
			Help: "Total number of retries handled by workqueue"}, []string{"name"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "workqueue_queue_duration_seconds",
			Help: "How long in seconds an item stays in workqueue before being requested.", Buckets: buckets}, []string{"name"}),
		work: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "workqueue_work_duration_seconds",
			Help: "How long in seconds processing an item from workqueue takes.", Buckets: buckets}, []string{"name"}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{Name: "leader_election_master_status", ConstLabels: prometheus.Labels{"name": "kube-controller-manager"},
			Help: "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease. " +
				"Please make sure to group by name."}),
		queues: map[*queue]string{},
	}
}

// leading notes whether the controllers run here that run once.
func (m *Metrics) leading(is float64) {
	if m != nil {
		m.leads.Set(is)
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.adds.Describe(ch)
	m.retries.Describe(ch)
	m.wait.Describe(ch)
	m.work.Describe(ch)
	m.leads.Describe(ch)
	ch <- depthDesc
	ch <- unfinishedDesc
	ch <- longestDesc
}

// Collect implements prometheus.Collector. What changes with time alone is computed here, so that an idle queue costs nothing.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.adds.Collect(ch)
	m.retries.Collect(ch)
	m.wait.Collect(ch)
	m.work.Collect(ch)
	m.leads.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	for q, name := range m.queues {
		depth, sum, longest := q.progress()
		ch <- prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(depth), name)
		ch <- prometheus.MustNewConstMetric(unfinishedDesc, prometheus.GaugeValue, sum.Seconds(), name)
		ch <- prometheus.MustNewConstMetric(longestDesc, prometheus.GaugeValue, longest.Seconds(), name)
	}
}

func (q *queue) progress() (depth int, sum, longest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, since := range q.busy {
		d := time.Since(since)
		sum += d
		longest = max(longest, d)
	}
	return len(q.ready), sum, longest
}

// queueMetrics are one queue's; nil counts nothing.
type queueMetrics struct {
	adds, retries prometheus.Counter
	wait, work    prometheus.Observer
}

func (m *Metrics) of(name string) *queueMetrics {
	if m == nil {
		return nil
	}
	return &queueMetrics{
		adds: m.adds.WithLabelValues(name), retries: m.retries.WithLabelValues(name),
		wait: m.wait.WithLabelValues(name), work: m.work.WithLabelValues(name),
	}
}

func (m *Metrics) follow(q *queue, name string) (stop func()) {
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues[q] = name
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.queues, q)
	}
}

func (m *queueMetrics) added() {
	if m != nil {
		m.adds.Inc()
	}
}

func (m *queueMetrics) retried() {
	if m != nil {
		m.retries.Inc()
	}
}

func (m *queueMetrics) waited(d time.Duration) {
	if m != nil {
		m.wait.Observe(d.Seconds())
	}
}

func (m *queueMetrics) worked(d time.Duration) {
	if m != nil {
		m.work.Observe(d.Seconds())
	}
}
