package apiserver

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// readMetrics count what is read of the cache. What is counted in is looked up once for each kind.
type readMetrics struct {
	lists, fetched, returned, consistent *prometheus.CounterVec
	waits                                *prometheus.HistogramVec

	series sync.Map // schema.GroupResource → *readSeries
}

// readSeries are those of one kind.
type readSeries struct {
	group, resource string
	returned        prometheus.Counter
	plain           listSeries // without an index
	consistent      prometheus.Counter
	wait            prometheus.Observer
}

type listSeries struct{ lists, fetched prometheus.Counter }

func newReadMetrics(reg *prometheus.Registry) *readMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_" + name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &readMetrics{
		lists:      counter("cache_list_total", "Number of LIST requests served from watch cache", "group", "resource", "index"),
		fetched:    counter("cache_list_fetched_objects_total", "Number of objects read from watch cache in the course of serving a LIST request", "group", "resource", "index"),
		returned:   counter("cache_list_returned_objects_total", "Number of objects returned for a LIST request from watch cache", "group", "resource"),
		consistent: counter("watch_cache_consistent_read_total", "Counter for consistent reads from cache.", "group", "resource", "success", "fallback"),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_watch_cache_read_wait_seconds", Help: "Histogram of time spent waiting for a watch cache to become fresh.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3},
		}, []string{"group", "resource"}),
	}
	reg.MustRegister(m.waits)
	return m
}

func (m *readMetrics) of(gr schema.GroupResource) *readSeries {
	if s, ok := m.series.Load(gr); ok {
		return s.(*readSeries)
	}
	s := &readSeries{
		group: gr.Group, resource: gr.Resource,
		returned: m.returned.WithLabelValues(gr.Group, gr.Resource), plain: m.by(gr, ""),
		consistent: m.consistent.WithLabelValues(gr.Group, gr.Resource, "true", "false"), wait: m.waits.WithLabelValues(gr.Group, gr.Resource),
	}
	out, _ := m.series.LoadOrStore(gr, s)
	return out.(*readSeries)
}

func (m *readMetrics) by(gr schema.GroupResource, index string) listSeries {
	return listSeries{m.lists.WithLabelValues(gr.Group, gr.Resource, index), m.fetched.WithLabelValues(gr.Group, gr.Resource, index)}
}

// listed counts a list that looked at so many objects.
func (m *readMetrics) listed(gr schema.GroupResource, index string, fetched, returned int) {
	s := m.of(gr)
	l := s.plain
	if index != "" {
		l = m.by(gr, "f:"+index)
	}
	l.lists.Inc()
	l.fetched.Add(float64(fetched))
	s.returned.Add(float64(returned))
}

// freshened counts a wait for the cache to be as new as the database.
func (m *readMetrics) freshened(gr schema.GroupResource, took time.Duration, err error) {
	s := m.of(gr)
	s.wait.Observe(took.Seconds())
	if err != nil {
		m.consistent.WithLabelValues(gr.Group, gr.Resource, "false", "false").Inc()
		return
	}
	s.consistent.Inc()
}
