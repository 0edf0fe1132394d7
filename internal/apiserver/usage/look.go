package usage

import (
	"fmt"
	"io"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
)

// look is what a kubelet told at a moment.
type look struct {
	taken time.Time
	node  point
	pods  map[types.NamespacedName]map[string]*point
}

// point is what was measured of a node or a container.
type point struct {
	at       time.Time // of the CPU's count
	started  time.Time
	seconds  float64 // of CPU since the start
	memory   float64
	complete int // how many of seconds and memory are there
}

const needed = 2

// youngest is the age at which a container's count since its start tells something.
const youngest = time.Second

// parse reads what a kubelet tells; what has no timestamp of its own is as old as the look.
func parse(r io.Reader, taken time.Time) (*look, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("read a kubelet's resource metrics: %w", err)
	}
	l := &look{taken: taken, pods: map[types.NamespacedName]map[string]*point{}}
	set := map[string]func(p *point, v float64, at time.Time){
		"cpu_usage_seconds_total":  func(p *point, v float64, at time.Time) { p.seconds, p.at, p.complete = v, at, p.complete+1 },
		"memory_working_set_bytes": func(p *point, v float64, _ time.Time) { p.memory, p.complete = v, p.complete+1 },
		"start_time_seconds":       func(p *point, v float64, _ time.Time) { p.started = time.Unix(0, int64(v*1e9)) },
	}
	for name, put := range set {
		for _, m := range families["node_"+name].GetMetric() {
			put(&l.node, valueOf(m), timeOf(m, taken))
		}
		for _, m := range families["container_"+name].GetMetric() {
			put(l.container(m), valueOf(m), timeOf(m, taken))
		}
	}
	return l, nil
}

// container finds the point of a metric's container.
func (l *look) container(m *dto.Metric) *point {
	var pod types.NamespacedName
	var name string
	for _, label := range m.GetLabel() {
		switch label.GetName() {
		case "namespace":
			pod.Namespace = label.GetValue()
		case "pod":
			pod.Name = label.GetValue()
		case "container":
			name = label.GetValue()
		}
	}
	if l.pods[pod] == nil {
		l.pods[pod] = map[string]*point{}
	}
	p := l.pods[pod][name]
	if p == nil {
		p = &point{}
		l.pods[pod][name] = p
	}
	return p
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return m.GetUntyped().GetValue()
}

func timeOf(m *dto.Metric, otherwise time.Time) time.Time {
	if ms := m.GetTimestampMs(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return otherwise
}

// since computes what was used since an earlier look; false if nothing is known of the node itself. A pod of which a container is not known is left out,
// as half of a pod's use would mislead.
func (l *look) since(before *look) (api.NodeUsage, bool) {
	used, ok := l.node.since(&before.node)
	if !ok {
		return api.NodeUsage{}, false
	}
	out := api.NodeUsage{Usage: used, Containers: make(map[types.NamespacedName]map[string]api.Usage, len(l.pods))}
	for pod, containers := range l.pods {
		all := make(map[string]api.Usage, len(containers))
		for name, p := range containers {
			if u, ok := p.since(before.pods[pod][name]); ok {
				all[name] = u
			}
		}
		if len(all) == len(containers) {
			out.Containers[pod] = all
		}
	}
	return out, true
}

// since computes what was used since an earlier point. A container that has started since then has counted from zero.
func (p *point) since(before *point) (api.Usage, bool) {
	if p.complete < needed {
		return api.Usage{}, false
	}
	if before == nil || before.complete < needed || p.started.After(before.at) {
		if p.started.IsZero() || p.at.Sub(p.started) < youngest {
			return api.Usage{}, false
		}
		before = &point{at: p.started}
	}
	window := p.at.Sub(before.at)
	if window <= 0 || p.seconds < before.seconds {
		return api.Usage{}, false
	}
	return api.Usage{At: p.at, Window: window, NanoCores: uint64((p.seconds - before.seconds) / window.Seconds() * 1e9), MemoryBytes: uint64(p.memory)}, true
}
