package expositiontest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"sigs.k8s.io/yaml"
)

// Record writes the list anew. Documented is upstream's test/instrumentation/documentation/documentation-list.yaml. Outputs is a folder of what its components
// served, each page in a file by the component's name and the path's later parts ("kubelet-probes" is /metrics/probes): the documentation alone doesn't know the
// types of metrics with code of their own.
func (p *Page) Record(t *testing.T, documented, outputs string) {
	t.Helper()
	found := p.readDocumented(t, documented)
	for _, component := range p.Components {
		name := component + strings.ReplaceAll(strings.TrimPrefix(p.Endpoint, "/metrics"), "/", "-")
		data, err := os.ReadFile(filepath.Join(outputs, name))
		if err != nil {
			t.Fatal(err)
		}
		for name, f := range Parse(t, data) {
			found[name] = seen(name, f, found[name])
		}
	}
	var out bytes.Buffer
	for _, m := range slices.SortedFunc(maps.Values(found), func(a, b *metric) int { return cmp.Compare(a.name, b.name) }) {
		if len(p.Only) > 0 && !p.about(m.name) || strings.HasPrefix(m.name, "go_") || strings.HasPrefix(m.name, "process_") { // the client library's own
			continue
		}
		slices.Sort(m.labels)
		var buckets []string
		for _, b := range m.buckets {
			buckets = append(buckets, strconv.FormatFloat(b, 'g', 12, 64))
		}
		help := strings.NewReplacer("\n", `\n`, "\t", " ").Replace(m.help)
		fmt.Fprintln(&out, strings.Join([]string{m.name, m.kind, m.stability, strings.Join(m.labels, ","), strings.Join(buckets, ","), help}, "\t"))
	}
	if err := os.WriteFile(p.List, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readDocumented returns what upstream documents of the page.
func (p *Page) readDocumented(t *testing.T, path string) map[string]*metric {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name, Namespace, Subsystem, Type, StabilityLevel, DeprecatedVersion, Help string
		Labels                                                                    []string
		ConstLabels                                                               map[string]string
		Buckets                                                                   []float64
		ComponentEndpoints                                                        []struct{ Component, Endpoint string }
	}
	if data, err = yaml.YAMLToJSON(data); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]*metric{}
	for _, d := range list {
		m := &metric{kind: strings.ToLower(d.Type), stability: d.StabilityLevel, help: d.Help, buckets: d.Buckets}
		m.labels = append(d.Labels, slices.Collect(maps.Keys(d.ConstLabels))...)
		m.name = strings.Join(slices.DeleteFunc([]string{d.Namespace, d.Subsystem, d.Name}, func(s string) bool { return s == "" }), "_")
		if d.DeprecatedVersion != "" {
			m.help = fmt.Sprintf("(Deprecated since %s) %s", d.DeprecatedVersion, m.help)
		}
		for _, e := range d.ComponentEndpoints {
			if e.Endpoint == p.Endpoint && slices.Contains(p.Components, e.Component) {
				found[m.name] = m
			}
		}
		m.help = strings.Trim(m.help, "`") // of how it is written in Go
		if m.kind == "custom" {
			m.kind = ""
		}
	}
	return found
}

// seen is a metric as it is shown, which counts for more than how it is documented.
func seen(name string, f *dto.MetricFamily, known *metric) *metric {
	m := &metric{name: name, kind: strings.ToLower(f.GetType().String()), labels: labelsOf(f), help: f.GetHelp()}
	if level, help, ok := strings.Cut(m.help, "] "); ok && strings.HasPrefix(level, "[") {
		m.stability, m.help = level[1:], help
	} else if level, help, ok := strings.Cut(m.help, ": ["); ok { // EXPERIMENTAL
		m.stability, m.help = level, "["+help
	}
	if known != nil && len(m.labels) < len(known.labels) {
		m.labels = known.labels // those that are empty are not shown
	}
	if h := f.GetMetric()[0].GetHistogram(); h != nil {
		m.buckets = bounds(h)
	}
	return m
}
