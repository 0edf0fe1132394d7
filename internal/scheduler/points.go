package scheduler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// points tell how long what upstream calls an extension point takes, all plugins together. A nil *points is silent, and looks at no clock.
type points struct {
	took      [lastPoint][2]prometheus.Observer // without and with success
	evaluated *prometheus.CounterVec
	profile   string
}

// point is an extension point.
type point int

const (
	pointPreFilter  point = iota // the rules are compiled for the pod, or found in its class
	pointFilter                  // they look at the nodes that have changed since they last did
	pointScore                   // the best node is found by the scores that were given as the nodes were looked at
	pointPostFilter              // pods are looked for that could make room
	pointBind
	lastPoint
)

var pointNames = [lastPoint]string{"PreFilter", "Filter", "Score", "PostFilter", "Bind"}

func newPoints(r prometheus.Registerer, profile string) (*points, error) {
	all := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "scheduler_framework_extension_point_duration_seconds", Help: "Latency for running all plugins of a specific extension point.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 12),
	}, []string{"extension_point", "status", "profile"})
	p := &points{profile: profile, evaluated: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "scheduler_plugin_evaluation_total",
		Help: "Number of attempts to schedule pods by each plugin and the extension point (available only in PreFilter, Filter, PreScore, and Score).",
	}, []string{"plugin", "extension_point", "profile"})}
	for _, c := range []prometheus.Collector{all, p.evaluated} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	for i, name := range pointNames {
		failure := "Unschedulable"
		if point(i) == pointBind {
			failure = "Error"
		}
		p.took[i] = [2]prometheus.Observer{all.WithLabelValues(name, failure, profile), all.WithLabelValues(name, "Success", profile)}
	}
	return p, nil
}

// passed notes how long a point took, and whether the pod came further by it.
func (p *points) passed(at point, took time.Duration, success bool) {
	if p == nil {
		return
	}
	i := 0
	if success {
		i = 1
	}
	p.took[at][i].Observe(took.Seconds())
}

// evaluations returns what counts that a pod was judged by rules, which are the same for all pods of a class.
func (p *points) evaluations(rules []*rule) []prometheus.Counter {
	if p == nil {
		return nil
	}
	var out []prometheus.Counter
	for _, r := range rules {
		if r.filter != nil {
			out = append(out, p.evaluated.WithLabelValues(r.plugin, pointNames[pointFilter], p.profile))
		}
		if r.score != nil {
			out = append(out, p.evaluated.WithLabelValues(r.plugin, pointNames[pointScore], p.profile))
		}
	}
	return out
}

// stopwatch measures points that follow one another.
type stopwatch struct {
	points *points
	last   time.Time
}

func (p *points) start() stopwatch {
	if p == nil {
		return stopwatch{}
	}
	return stopwatch{p, time.Now()}
}

// lap returns the time since the last one.
func (w *stopwatch) lap() time.Duration {
	if w.points == nil {
		return 0
	}
	now := time.Now()
	took := now.Sub(w.last)
	w.last = now
	return took
}
