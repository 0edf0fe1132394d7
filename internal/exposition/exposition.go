package exposition

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

// levels are how stable metrics are, by name; ALPHA are not in it.
var levels = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(stability) {
		name, level, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[name] = level
	}
	return out
})

// Page shows what is registered in upstream's form. It can be reset: what is counted from then on is shown, while whoever
// counts goes on as before.
type Page struct {
	from prometheus.Gatherer
	text http.Handler

	mu   sync.Mutex
	base map[string]map[string]*dto.Metric // series at the last reset, by name and labels
}

// New returns a page of a registry, in which it registers what it tells of the registry itself.
func New(reg *prometheus.Registry, started time.Time) *Page {
	p := &Page{from: reg}
	reg.MustRegister(&registrations{reg})
	p.text = promhttp.HandlerFor(p, promhttp.HandlerOpts{ProcessStartTime: started})
	return p
}

// ServeHTTP shows the metrics, or resets them.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodDelete {
		p.text.ServeHTTP(w, r)
		return
	}
	if err := p.reset(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("metrics reset\n")) // a client that went away is no error of the server's
}

// Gather implements prometheus.Gatherer.
func (p *Page) Gather() ([]*dto.MetricFamily, error) {
	families, err := p.from.Gather()
	p.mu.Lock()
	base := p.base
	p.mu.Unlock()
	out := families[:0]
	for _, f := range families {
		f.Help = proto.String(shownHelp(f.GetName(), f.GetHelp()))
		if before := base[f.GetName()]; before != nil {
			f.Metric = sinceThen(f.Metric, before)
		}
		if len(f.Metric) > 0 {
			out = append(out, f)
		}
	}
	return out, err
}

// stabilityOf is how stable upstream calls a metric; "" where it says nothing, as of those of the client library.
func stabilityOf(name string) string {
	for _, prefix := range []string{"go_", "process_", "promhttp_", "grpc_", "clipper_", "coredns_"} {
		if strings.HasPrefix(name, prefix) {
			return ""
		}
	}
	if level, ok := levels()[name]; ok {
		return level
	}
	return "ALPHA"
}

// shownHelp is a metric's help in upstream's form. Of averages over nanoseconds, upstream says that they are an experiment.
func shownHelp(name, help string) string {
	level := stabilityOf(name)
	if level == "" {
		return help
	}
	help = "[" + level + "] " + help
	if strings.HasPrefix(help, "[ALPHA] Observations, at the end of every nanosecond") {
		return "EXPERIMENTAL: " + help
	}
	return help
}

func (p *Page) reset() error {
	families, err := p.from.Gather()
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base = base
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
		if level := stabilityOf(name); level != "" {
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
