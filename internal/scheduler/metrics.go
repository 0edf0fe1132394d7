package scheduler

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are upstream's, by name and label.
type metrics struct {
	attempts  *prometheus.CounterVec   // scheduler_schedule_attempts_total
	attempt   *prometheus.HistogramVec // scheduler_scheduling_attempt_duration_seconds
	algorithm prometheus.Histogram     // scheduler_scheduling_algorithm_duration_seconds
	sli       *prometheus.HistogramVec // scheduler_pod_scheduling_sli_duration_seconds
	tries     prometheus.Histogram     // scheduler_pod_scheduling_attempts
	victims   prometheus.Histogram     // scheduler_preemption_victims
	preempts  prometheus.Counter       // scheduler_preemption_attempts_total
	pending   *prometheus.GaugeVec     // scheduler_pending_pods
	blame     *prometheus.GaugeVec     // scheduler_unschedulable_pods
	incoming  *prometheus.CounterVec   // scheduler_queue_incoming_pods_total
	cache     *prometheus.GaugeVec     // scheduler_cache_size
	flushed   prometheus.Counter       // scheduler_pod_scheduled_after_flush_total
	creates   *prometheus.CounterVec   // scheduler_resourceclaim_creates_total
	points    *points                  // scheduler_framework_extension_point_duration_seconds
	profile   string
}

// Results of an attempt.
const (
	resultScheduled     = "scheduled"
	resultUnschedulable = "unschedulable"
	resultError         = "error"
)

// newMetrics registers the scheduler's metrics; registry may be nil.
func newMetrics(registry prometheus.Registerer, profile string) (*metrics, error) {
	m := &metrics{
		profile: profile,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total",
			Help: "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem."}, []string{"result", "profile"}),
		attempt: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds",
			Help: "Scheduling attempt latency in seconds (scheduling algorithm + binding)", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"result", "profile"}),
		algorithm: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_scheduling_algorithm_duration_seconds",
			Help: "Scheduling algorithm latency in seconds", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds",
			Help:    "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 20)}, []string{"attempts"}),
		tries: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_attempts",
			Help: "Number of attempts to successfully schedule a pod.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		victims: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_preemption_victims",
			Help: "Number of selected preemption victims", Buckets: prometheus.ExponentialBuckets(1, 2, 7)}),
		preempts: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_preemption_attempts_total",
			Help: "Total preemption attempts in the cluster till now"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_pending_pods",
			Help: "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated."}, []string{"queue"}),
		blame: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_unschedulable_pods",
			Help: "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin."}, []string{"plugin", "profile"}),
		incoming: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_queue_incoming_pods_total",
			Help: "Number of pods added to scheduling queues by event and queue type."}, []string{"queue", "event"}),
		cache: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_cache_size",
			Help: "Number of nodes, pods, and assumed (bound) pods in the scheduler cache."}, []string{"type"}),
		flushed: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_pod_scheduled_after_flush_total",
			Help: "Number of pods that were successfully scheduled after being flushed from unschedulablePods due to timeout. This metric helps detect potential queueing hint misconfigurations or event handling issues."}),
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_resourceclaim_creates_total",
			Help: "Number of ResourceClaims creation requests within scheduler"}, []string{"status"}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.attempt, m.algorithm, m.sli, m.tries, m.victims, m.preempts, m.pending, m.blame, m.incoming, m.cache, m.flushed, m.creates} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register the scheduler's metrics: %w", err)
		}
	}
	var err error
	if m.points, err = newPoints(registry, profile); err != nil {
		return nil, fmt.Errorf("register the scheduler's metrics: %w", err)
	}
	return m, nil
}

// decided notes a decision and how long it took.
func (m *metrics) decided(d decision, took time.Duration) {
	m.algorithm.Observe(took.Seconds())
	if d.node == "" {
		m.attempts.WithLabelValues(resultUnschedulable, m.profile).Inc()
		m.attempt.WithLabelValues(resultUnschedulable, m.profile).Observe(took.Seconds())
		m.preempts.Inc()
		if len(d.victims) > 0 {
			m.victims.Observe(float64(len(d.victims)))
		}
	}
}

// bound notes what came of a binding, which began with its decision at from.
func (m *metrics) bound(p *podInfo, from, now time.Time, err error) {
	result := resultScheduled
	if err != nil {
		result = resultError
	}
	m.attempts.WithLabelValues(result, m.profile).Inc()
	m.attempt.WithLabelValues(result, m.profile).Observe(now.Sub(from).Seconds())
	if err != nil {
		return
	}
	m.tries.Observe(float64(p.attempts))
	if p.flushed {
		m.flushed.Inc()
	}
	m.sli.WithLabelValues(attemptsLabel(p.attempts)).Observe(now.Sub(p.queuedAt).Seconds())
}

// claimCreated notes what came of making a claim for extended resources.
func (m *metrics) claimCreated(err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.creates.WithLabelValues(status).Inc()
}

// attemptsLabel keeps the number of label values small.
func attemptsLabel(n int) string {
	if n >= 15 {
		return "15+"
	}
	return fmt.Sprint(n)
}

// sizes notes how much the core holds.
func (m *metrics) sizes(c *core) {
	q := c.queue
	gated := len(q.pods) - q.active.Len() - q.backoff.Len() - len(q.waiting)
	m.pending.WithLabelValues("active").Set(float64(q.active.Len()))
	m.pending.WithLabelValues("backoff").Set(float64(q.backoff.Len()))
	m.pending.WithLabelValues("unschedulable").Set(float64(len(q.waiting)))
	m.pending.WithLabelValues("gated").Set(float64(gated))
	for plugin, n := range q.blame {
		m.blame.WithLabelValues(plugin, m.profile).Set(float64(n))
	}
	m.cache.WithLabelValues("nodes").Set(float64(c.cluster.count))
	m.cache.WithLabelValues("pods").Set(float64(len(c.cluster.pods)))
	for queue, events := range q.incoming {
		for event, n := range events {
			m.incoming.WithLabelValues(queue, event).Add(n)
		}
	}
	clear(q.incoming)
}
