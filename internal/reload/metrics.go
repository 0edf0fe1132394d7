package reload

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts how often a configuration was loaded anew, under upstream's names.
type Metrics struct {
	server string
	total  *prometheus.CounterVec
	last   *prometheus.GaugeVec
	info   *prometheus.GaugeVec
}

// NewMetrics makes and registers the metrics of one controller: "authentication_config_controller". server is this API server's identity.
func NewMetrics(r prometheus.Registerer, controller, server string) (*Metrics, error) {
	prefix := "apiserver_" + controller + "_"
	what := strings.TrimSuffix(controller, "_config_controller") + " configuration"
	total := "Total number of automatic reloads of " + what + " split by status and apiserver identity."
	last := "Timestamp of the last automatic reload of " + what + " split by status and apiserver identity."
	if strings.HasPrefix(what, "encryption") { // which upstream words otherwise
		total = "Total number of reload successes and failures of " + what + " split by apiserver identity."
		last = "Timestamp of the last successful or failed automatic reload of " + what + " split by apiserver identity."
	}
	labels := []string{"status", "apiserver_id_hash"}
	m := &Metrics{
		server: hash([]byte(server)),
		total:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "automatic_reloads_total", Help: total}, labels),
		last:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "automatic_reload_last_timestamp_seconds", Help: last}, labels),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "last_config_info", Help: "Information about the last applied " + what + " with hash as label, split by apiserver identity.",
		}, []string{"apiserver_id_hash", "hash"}),
	}
	for _, c := range []prometheus.Collector{m.total, m.last, m.info} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of %s: %w", controller, err)
		}
	}
	return m, nil
}

// InForce notes the content that is in force from the start.
func (m *Metrics) InForce(content []byte) {
	m.info.Reset()
	m.info.WithLabelValues(m.server, hash(content)).Set(1)
}

func (m *Metrics) count(err error, content []byte) {
	if m == nil {
		return
	}
	status := "success"
	if err != nil {
		status = "failure"
	} else {
		m.InForce(content)
	}
	m.total.WithLabelValues(status, m.server).Inc()
	m.last.WithLabelValues(status, m.server).Set(float64(time.Now().Unix()))
}

func hash(content []byte) string {
	if len(content) == 0 {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}
