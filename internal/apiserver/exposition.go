package apiserver

import (
	_ "embed"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// stability lists upstream's metrics that are more or less than alpha.
//
//go:embed stability.txt
var stability string

// exposition shows what is registered in upstream's form. It can be reset: what is counted from then on is shown, while whoever
// counts goes on as before.
type exposition struct {
	from   prometheus.Gatherer
	levels map[string]string // by name; ALPHA are not in it
	text   http.Handler

	mu   sync.Mutex
	base map[string]map[string]*dto.Metric // series at the last reset, by name and labels
}

func newExposition(reg *prometheus.Registry, started time.Time) *exposition {
	e := &exposition{from: reg, levels: map[string]string{}}
	for line := range strings.Lines(stability) {
		name, level, _ := strings.Cut(strings.TrimSpace(line), " ")
		e.levels[name] = level
	}
	reg.MustRegister(&registrations{reg, e})
	e.text = promhttp.HandlerFor(e, promhttp.HandlerOpts{ProcessStartTime: started})
	return e
}

// ServeHTTP shows the metrics, or resets them.
func (e *exposition) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodDelete {
		e.text.ServeHTTP(w, r)
		return
	}
	if err := e.reset(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("metrics reset\n")) // a client that went away is no error of the server's
}

// Gather implements prometheus.Gatherer.
func (e *exposition) Gather() ([]*dto.MetricFamily, error) {
	families, err := e.from.Gather()
	e.mu.Lock()
	base := e.base
	e.mu.Unlock()
	out := families[:0]
	for _, f := range families {
		f.Help = proto.String(e.shownHelp(f.GetName(), f.GetHelp()))
		if before := base[f.GetName()]; before != nil {
			f.Metric = sinceThen(f.Metric, before)
		}
		if len(f.Metric) > 0 {
			out = append(out, f)
		}
	}
	return out, err
}

// level is how stable upstream calls a metric; "" where it says nothing, as of those of the client library.
func (e *exposition) level(name string) string {
	for _, prefix := range []string{"go_", "process_", "promhttp_", "grpc_", "clipper_", "coredns_"} {
		if strings.HasPrefix(name, prefix) {
			return ""
		}
	}
	if level, ok := e.levels[name]; ok {
		return level
	}
	return "ALPHA"
}

// shownHelp is a metric's help in upstream's form. Of averages over nanoseconds, upstream says that they are an experiment.
func (e *exposition) shownHelp(name, help string) string {
	level := e.level(name)
	if level == "" {
		return help
	}
	help = "[" + level + "] " + help
	if strings.HasPrefix(help, "[ALPHA] Observations, at the end of every nanosecond") {
		return "EXPERIMENTAL: " + help
	}
	return help
}

func (e *exposition) reset() error {
	families, err := e.from.Gather()
	if err != nil {
		return err
	}
	base := map[string]map[string]*dto.Metric{}
	for _, f := range families {
		if f.GetType() != dto.MetricType_COUNTER && f.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				continue // upstream resets what has labels
			}
			if base[f.GetName()] == nil {
				base[f.GetName()] = map[string]*dto.Metric{}
			}
			base[f.GetName()][seriesKey(m)] = m
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.base = base
	return nil
}

func seriesKey(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		b.WriteString(l.GetName())
		b.WriteByte(0)
		b.WriteString(l.GetValue())
		b.WriteByte(0)
	}
	return b.String()
}

// sinceThen returns the series in which something was counted since, without what had been counted before.
func sinceThen(series []*dto.Metric, before map[string]*dto.Metric) []*dto.Metric {
	out := series[:0]
	for _, m := range series {
		if old := before[seriesKey(m)]; old != nil && !subtract(m, old) {
			continue
		}
		out = append(out, m)
	}
	return out
}

// subtract takes what had been counted away, and tells whether something is left. Series that began anew have counted less.
func subtract(m, old *dto.Metric) bool {
	if c := m.GetCounter(); c != nil {
		if c.GetValue() < old.GetCounter().GetValue() {
			return true
		}
		c.Value = proto.Float64(c.GetValue() - old.GetCounter().GetValue())
		return c.GetValue() > 0
	}
	h, was := m.GetHistogram(), old.GetHistogram()
	if h == nil || was == nil || h.GetSampleCount() < was.GetSampleCount() || len(h.GetBucket()) != len(was.GetBucket()) {
		return true
	}
	h.SampleCount = proto.Uint64(h.GetSampleCount() - was.GetSampleCount())
	h.SampleSum = proto.Float64(h.GetSampleSum() - was.GetSampleSum())
	for i, b := range h.GetBucket() {
		b.CumulativeCount = proto.Uint64(b.GetCumulativeCount() - was.GetBucket()[i].GetCumulativeCount())
	}
	return h.GetSampleCount() > 0
}

var (
	registeredDesc = prometheus.NewDesc("registered_metrics_total", "The count of registered metrics broken by stability level and deprecation version.",
		[]string{"deprecated_version", "stability_level"}, nil)
	hiddenDesc   = prometheus.NewDesc("hidden_metrics_total", "The count of hidden metrics.", nil, nil)
	disabledDesc = prometheus.NewDesc("disabled_metrics_total", "The count of disabled metrics.", nil, nil)
)

// registrations count what is registered. None is hidden, and none can be disabled.
type registrations struct {
	reg *prometheus.Registry
	e   *exposition
}

// Describe implements prometheus.Collector.
func (r *registrations) Describe(ch chan<- *prometheus.Desc) {
	ch <- registeredDesc
	ch <- hiddenDesc
	ch <- disabledDesc
}

// Collect implements prometheus.Collector.
func (r *registrations) Collect(ch chan<- prometheus.Metric) {
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		r.reg.Describe(all)
	}()
	count := map[[2]string]int{}
	for d := range all {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if level := r.e.level(name); level != "" {
			_, since, _ := strings.Cut(rest, `help: "(Deprecated since `)
			version, _, _ := strings.Cut(since, ")")
			count[[2]string{version, level}]++
		}
	}
	for labels, n := range count {
		ch <- prometheus.MustNewConstMetric(registeredDesc, prometheus.CounterValue, float64(n), labels[0], labels[1])
	}
	ch <- prometheus.MustNewConstMetric(hiddenDesc, prometheus.CounterValue, 0)
	ch <- prometheus.MustNewConstMetric(disabledDesc, prometheus.CounterValue, 0)
}
