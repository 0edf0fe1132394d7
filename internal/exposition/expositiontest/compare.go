package expositiontest

import (
	"bytes"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"
)

// Page is one page of metrics, or what several components have at the same path.
type Page struct {
	// List is the file of upstream's metrics, Unserved the one of those that are not served, with their reasons; "" is that all are.
	List, Unserved string
	// Components are upstream's, and Endpoint is the path, as upstream's documentation has them.
	Components []string
	Endpoint   string
	// Only are beginnings of the names to look at; nil is all. Those of Except are for another test.
	Only, Except []string
}

// metric is one that Kubernetes serves.
type metric struct {
	name, kind, stability, help string
	labels                      []string
	buckets                     []float64
}

// Description is what a collector tells about a metric.
type Description struct {
	help   string
	labels []string
}

// Compare holds what is registered, and what of it is shown, against upstream's list.
func (p *Page) Compare(t *testing.T, registered map[string]Description, shown map[string]*dto.MetricFamily) {
	t.Helper()
	for name, f := range shown { // what is described only as it is collected
		if _, ok := registered[name]; !ok {
			registered[name] = Description{help: f.GetHelp(), labels: labelsOf(f)}
		}
	}
	without := p.readUnserved(t)
	var missing, served, left int
	for _, m := range p.read(t) {
		got, ok := registered[m.name]
		reason, listed := without[m.name]
		delete(without, m.name)
		switch {
		case !ok && !listed:
			t.Errorf("%s is not served, and %s gives no reason", m.name, p.Unserved)
			missing++
			continue
		case ok && listed:
			t.Errorf("%s is served: what %s says is not so: %s", m.name, p.Unserved, reason)
		case !ok:
			left++
			continue
		}
		served++
		m.check(t, got, shown[m.name])
	}
	for name := range without {
		t.Errorf("%s, which %s tells of, is none of upstream's", name, p.Unserved)
	}
	t.Logf("%s of %s: %d are served, %d are not with a reason, %d without", p.Endpoint, strings.Join(p.Components, ", "), served, left, missing)
}

// check compares what is told about a metric, and its series if it has some.
func (m *metric) check(t *testing.T, got Description, f *dto.MetricFamily) {
	t.Helper()
	if !slices.Equal(got.labels, m.labels) {
		t.Errorf("%s has labels %v, not %v", m.name, got.labels, m.labels)
	}
	if f == nil {
		if help := listed(got.help); help != m.help {
			t.Errorf("%s has help %q, not %q", m.name, help, m.help)
		}
		return
	}
	want := m.help
	switch m.stability {
	case "":
	case "EXPERIMENTAL":
		want = m.stability + ": " + want
	default:
		want = "[" + m.stability + "] " + want
	}
	if help := listed(f.GetHelp()); help != want {
		t.Errorf("%s is shown with help %q, not %q", m.name, help, want)
	}
	if kind := strings.ToLower(f.GetType().String()); m.kind != "" && kind != m.kind {
		t.Errorf("%s is a %s, not a %s", m.name, kind, m.kind)
	}
	if h := f.GetMetric()[0].GetHistogram(); h != nil && !slices.EqualFunc(bounds(h), m.buckets, near) {
		t.Errorf("%s has buckets %v, not %v", m.name, bounds(h), m.buckets)
	}
}

// listed is a help as it stands in a list, whose columns tabs separate.
func listed(help string) string { return strings.ReplaceAll(help, "\t", " ") }

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

func bounds(h *dto.Histogram) []float64 {
	var out []float64
	for _, b := range h.GetBucket() {
		if v := b.GetUpperBound(); v <= 1e300 {
			out = append(out, v)
		}
	}
	return out
}

var (
	descriptionText = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constLabel      = regexp.MustCompile(`(\w+)="`)
)

// Describe returns all that is registered, whether it has series or not.
func Describe(r *prometheus.Registry) map[string]Description {
	all := make(chan *prometheus.Desc)
	go func() {
		defer close(all)
		r.Describe(all)
	}()
	out := map[string]Description{}
	for d := range all {
		m := descriptionText.FindStringSubmatch(d.String())
		if m == nil {
			continue
		}
		name, _ := strconv.Unquote(m[1])
		help, _ := strconv.Unquote(m[2])
		var labels []string
		for _, fixed := range constLabel.FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, fixed[1])
		}
		if m[4] != "" {
			labels = append(labels, strings.Split(m[4], ",")...)
		}
		slices.Sort(labels)
		out[name] = Description{help, labels}
	}
	return out
}

func labelsOf(f *dto.MetricFamily) []string {
	seen := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			seen[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Gather returns what a page shows.
func Gather(t *testing.T, from prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.MetricFamily{}
	for _, f := range families {
		out[f.GetName()] = f
	}
	return out
}

// Parse reads a page as it is served.
func Parse(t *testing.T, data []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	out, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Sum adds up all series of a metric: values, and how often histograms observed something. It is 0 for none.
func Sum(f *dto.MetricFamily) float64 {
	var sum float64
	for _, m := range f.GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

func (p *Page) read(t *testing.T) []*metric {
	t.Helper()
	data, err := os.ReadFile(p.List)
	if err != nil {
		t.Fatal(err)
	}
	var out []*metric
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 {
			t.Fatalf("%s: %q", p.List, line)
		}
		if !p.about(f[0]) {
			continue
		}
		m := &metric{name: f[0], kind: f[1], stability: f[2], help: strings.ReplaceAll(f[5], `\n`, "\n"), labels: split(f[3])}
		for _, b := range split(f[4]) {
			v, err := strconv.ParseFloat(b, 64)
			if err != nil {
				t.Fatal(err)
			}
			m.buckets = append(m.buckets, v)
		}
		out = append(out, m)
	}
	return out
}

// about tells whether a name is one to look at.
func (p *Page) about(name string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return (len(p.Only) == 0 || slices.ContainsFunc(p.Only, begins)) && !slices.ContainsFunc(p.Except, begins)
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// readUnserved returns the reasons why metrics are not served.
func (p *Page) readUnserved(t *testing.T) map[string]string {
	t.Helper()
	if p.Unserved == "" {
		return nil
	}
	data, err := os.ReadFile(p.Unserved)
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Reason  string
		Metrics []string
	}
	if err := yaml.UnmarshalStrict(data, &groups); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, g := range groups {
		for _, name := range g.Metrics {
			if _, twice := out[name]; twice || g.Reason == "" {
				t.Errorf("%s: %s is listed twice, or without a reason", p.Unserved, name)
			}
			out[name] = g.Reason
		}
	}
	return out
}
