package policy

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checks count the checks of one kind of policy, under upstream's names.
type checks struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newChecks(reg prometheus.Registerer, name, totalHelp, durationHelp string, labels ...string) *checks {
	c := &checks{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_" + name + "_check_total", Help: totalHelp}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_" + name + "_check_duration_seconds", Help: durationHelp, Buckets: []float64{0.0000005, 0.001, 0.01, 0.1, 1},
		}, labels),
	}
	if reg != nil {
		reg.MustRegister(c.total, c.duration)
	}
	return c
}

func (c *checks) observe(took time.Duration, labels ...string) {
	c.total.WithLabelValues(labels...).Inc()
	c.duration.WithLabelValues(labels...).Observe(took.Seconds())
}

// errorType sorts what went wrong with an expression, by its message as upstream does; "" is nothing.
func errorType(message string) string {
	switch {
	case message == "":
		return "no_error"
	case strings.HasPrefix(message, "compilation"):
		return "compile_error"
	case strings.HasPrefix(message, "validation failed due to running out of cost budget"):
		return "out_of_budget"
	}
	return "invalid_error"
}
