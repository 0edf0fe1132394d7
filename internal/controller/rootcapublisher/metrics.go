package rootcapublisher

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	syncs    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	const subsystem, help = "root_ca_cert_publisher", "Number of namespace syncs happened in root ca cert publisher."
	return &metrics{
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "sync_total", Help: help}, []string{"code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "sync_duration_seconds", Help: help,
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"code"}),
	}
}

// synced counts a round for a namespace by what the API answered last.
func (m *metrics) synced(took time.Duration, err error) {
	code := http.StatusOK
	if err != nil {
		code = http.StatusInternalServerError
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			code = int(status.Status().Code)
		}
	}
	m.syncs.WithLabelValues(strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(strconv.Itoa(code)).Observe(took.Seconds())
}
