package fairness

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	byKind      = []string{"request_kind"}
	byLevel     = []string{"priority_level"}
	byFlow      = []string{"priority_level", "flow_schema"}
	byBound     = []string{"priority_level", "bound"}
	byPhase     = []string{"phase", "priority_level"}
	byPhaseKind = []string{"phase", "request_kind"}
)

func desc(name, help string, labels []string, constant ...string) *prometheus.Desc {
	var fixed prometheus.Labels
	if len(constant) == 2 {
		fixed = prometheus.Labels{constant[0]: constant[1]}
	}
	return prometheus.NewDesc("apiserver_flowcontrol_"+name, help, labels, fixed)
}

// The metrics by upstream's names.
var (
	inflightDesc = prometheus.NewDesc("apiserver_current_inflight_requests", "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.", byKind, nil)
	inqueueDesc  = prometheus.NewDesc("apiserver_current_inqueue_requests", "Maximal number of queued requests in this apiserver per request kind in last second.", byKind, nil)

	rejectedDesc      = desc("rejected_requests_total", "Number of requests rejected by API Priority and Fairness subsystem", append(slices.Clip(byFlow), "reason"))
	dispatchedDesc    = desc("dispatched_requests_total", "Number of requests executed by API Priority and Fairness subsystem", byFlow)
	unaccommodated    = desc("request_dispatch_no_accommodation_total", "Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats", byFlow)
	waitingDesc       = desc("current_inqueue_requests", "Number of requests currently pending in queues of the API Priority and Fairness subsystem", byFlow)
	waitingSeatsDesc  = desc("current_inqueue_seats", "Number of seats currently pending in queues of the API Priority and Fairness subsystem", byFlow)
	executingDesc     = desc("current_executing_requests", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", byFlow)
	seatsDesc         = desc("current_executing_seats", "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", byFlow)
	queueLengthDesc   = desc("request_queue_length_after_enqueue", "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", byFlow)
	waitDurationDesc  = desc("request_wait_duration_seconds", "Length of time a request spent waiting in its queue", append(slices.Clip(byFlow), "execute"))
	executionDesc     = desc("request_execution_seconds", "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem", append(slices.Clip(byFlow), "type"))
	watchersDesc      = desc("watch_count_samples", "count of watchers for mutating requests in API Priority and Fairness", byFlow)
	estimatedDesc     = desc("work_estimated_seats", "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", byFlow)
	currentRDesc      = desc("current_r", "R(time of last change)", byLevel)
	dispatchRDesc     = desc("dispatch_r", "R(time of last dispatch)", byLevel)
	latestSDesc       = desc("latest_s", "S(most recently dispatched request)", byLevel)
	nextSDesc         = desc("next_s_bounds", "min and max, over queues, of S(oldest waiting request in queue)", byBound)
	discountedSDesc   = desc("next_discounted_s_bounds", "min and max, over queues, of S(oldest waiting request in queue) - estimated work in progress", byBound)
	nominalDesc       = desc("nominal_limit_seats", "Nominal number of execution seats configured for each priority level", byLevel)
	lowerDesc         = desc("lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level", byLevel)
	upperDesc         = desc("upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level", byLevel)
	currentDesc       = desc("current_limit_seats", "current derived number of execution seats available to each priority level", byLevel)
	peakDesc          = desc("demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats", byLevel)
	meanDesc          = desc("demand_seats_average", "Time-weighted average, over last adjustment period, of demand_seats", byLevel)
	deviationDesc     = desc("demand_seats_stdev", "Time-weighted standard deviation, over last adjustment period, of demand_seats", byLevel)
	smoothedDesc      = desc("demand_seats_smoothed", "Smoothed seat demands", byLevel)
	targetDesc        = desc("target_seats", "Seat allocation targets", byLevel)
	fractionDesc      = desc("seat_fair_frac", "Fair fraction of server's concurrency to allocate to each priority level that can use it", nil)
	demandDesc        = desc("demand_seats", "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)", byLevel)
	utilizationDesc   = desc("priority_level_seat_utilization", "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)", byLevel, "phase", "executing")
	levelRequestsDesc = desc("priority_level_request_utilization", "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)", byPhase)
	readWriteDesc     = desc("read_vs_write_current_requests", "Observations, at the end of every nanosecond, of the number of requests (as a fraction of the relevant limit) waiting or in regular stage of execution", byPhaseKind)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		inflightDesc, inqueueDesc, rejectedDesc, dispatchedDesc, unaccommodated, waitingDesc, waitingSeatsDesc, executingDesc, seatsDesc, queueLengthDesc,
		waitDurationDesc, executionDesc, watchersDesc, estimatedDesc, currentRDesc, dispatchRDesc, latestSDesc, nextSDesc, discountedSDesc, nominalDesc,
		lowerDesc, upperDesc, currentDesc, peakDesc, meanDesc, deviationDesc, smoothedDesc, targetDesc, fractionDesc, demandDesc, utilizationDesc,
		levelRequestsDesc, readWriteDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector: it makes series out of what the levels have counted.
func (c *Controller) Collect(out chan<- prometheus.Metric) {
	s := series{out}
	for _, t := range []*tally{c.reading, c.writing} {
		s.ofTally(t, c.now())
	}
	c.mu.Lock()
	s.gauge(fractionDesc, c.fraction)
	states := slices.Collect(maps.Values(c.levels))
	for _, l := range states {
		s.ofState(l)
	}
	c.mu.Unlock()
	for _, l := range states {
		s.ofLevel(l.level)
	}
}

// series passes metrics on.
type series struct{ out chan<- prometheus.Metric }

func (s series) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// counter shows what has happened at least once.
func (s series) counter(d *prometheus.Desc, n int, labels ...string) {
	if n > 0 {
		s.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
}

// histogram shows one with observations.
func (s series) histogram(d *prometheus.Desc, h *histogram, labels ...string) {
	if h.n > 0 {
		s.out <- h.metric(d, labels...)
	}
}

func (s series) ofTally(t *tally, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	s.gauge(inflightDesc, float64(max(t.peak, t.last)), t.kind)
	s.gauge(inqueueDesc, float64(max(t.waitPeak, t.waits)), t.kind)
	s.out <- t.executingMeter.metric(readWriteDesc, now, "executing", t.kind)
	s.out <- t.waitMeter.metric(readWriteDesc, now, "waiting", t.kind)
}

// ofState shows a level's limits. The controller's lock is held.
func (s series) ofState(l *levelState) {
	s.gauge(nominalDesc, float64(l.nominal), l.name)
	s.gauge(lowerDesc, float64(l.min), l.name)
	s.gauge(upperDesc, float64(l.max), l.name)
	s.gauge(currentDesc, float64(l.current), l.name)
	s.gauge(peakDesc, l.demand.peak, l.name)
	s.gauge(meanDesc, l.demand.mean, l.name)
	s.gauge(deviationDesc, l.demand.deviation, l.name)
	s.gauge(smoothedDesc, l.demand.smoothed, l.name)
	s.gauge(targetDesc, l.target, l.name)
}

func (s series) ofLevel(l *level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	s.gauge(currentRDesc, l.virtual, l.name)
	if m := l.virtualMarks; m.set {
		s.gauge(dispatchRDesc, m.dispatched, l.name)
		s.gauge(latestSDesc, m.start, l.name)
		s.gauge(nextSDesc, m.min, l.name, "min")
		s.gauge(nextSDesc, m.max, l.name, "max")
		s.gauge(discountedSDesc, m.discountedMin, l.name, "min")
		s.gauge(discountedSDesc, m.discountedMax, l.name, "max")
	}
	s.out <- l.meters.demand.metric(demandDesc, now, l.name)
	s.out <- l.meters.seats.metric(utilizationDesc, now, l.name)
	s.out <- l.meters.executing.metric(levelRequestsDesc, now, "executing", l.name)
	s.out <- l.meters.waiting.metric(levelRequestsDesc, now, "waiting", l.name)
	for _, st := range l.stats {
		if st.estimated.n > 0 { // otherwise nothing has matched yet
			s.ofStats(st)
		}
	}
}

// ofStats shows what is counted of a schema. The level's lock is held.
func (s series) ofStats(st *stats) {
	level, schema := st.level.name, st.schema
	s.counter(dispatchedDesc, st.dispatched, level, schema)
	s.counter(unaccommodated, st.unaccommodated, level, schema)
	s.counter(rejectedDesc, st.full, level, schema, "queue-full")
	s.counter(rejectedDesc, st.concurrency, level, schema, "concurrency-limit")
	s.counter(rejectedDesc, st.timedOut, level, schema, "time-out")
	s.gauge(executingDesc, float64(st.executing), level, schema)
	s.gauge(seatsDesc, float64(st.seats), level, schema)
	if st.queueLength.n > 0 {
		s.gauge(waitingDesc, float64(st.waiting), level, schema)
		s.gauge(waitingSeatsDesc, float64(st.waitingSeats), level, schema)
	}
	s.histogram(queueLengthDesc, &st.queueLength, level, schema)
	s.histogram(waitDurationDesc, &st.waitedFor, level, schema, "true")
	s.histogram(waitDurationDesc, &st.waitedInVain, level, schema, "false")
	s.histogram(executionDesc, &st.regular, level, schema, "regular")
	s.histogram(executionDesc, &st.watch, level, schema, "watch")
	s.histogram(watchersDesc, &st.watchers, level, schema)
	s.histogram(estimatedDesc, &st.estimated, level, schema)
}
