package images

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// Metrics are what pulling and collecting images counts, under upstream's names. A nil *Metrics is silent.
type Metrics struct {
	ensured   *prometheus.CounterVec
	pulls     *prometheus.HistogramVec
	collected *prometheus.CounterVec
	checks    *prometheus.CounterVec
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		ensured: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_image_manager_ensure_image_requests_total", Help: "Number of ensure-image requests processed by the kubelet.",
		}, []string{"pull_policy", "present_locally", "pull_required"}),
		pulls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_image_pull_duration_seconds", Help: "Duration in seconds to pull an image.",
			Buckets: []float64{1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600},
		}, []string{"image_size_in_bytes"}),
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_image_garbage_collected_total", Help: "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
		}, []string{"reason"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_imagemanager_image_mustpull_checks_total", Help: "Counter for how many times kubelet checked whether credentials need to be re-verified to access an image",
		}, []string{"result"}),
	}
	r.MustRegister(m.ensured, m.pulls, m.collected, m.checks)
	return m
}

// tri is a truth that may not be known.
type tri string

const unknown tri = "unknown"

func truth(is bool) tri { return tri(strconv.FormatBool(is)) }

// ensure counts a request for an image.
func (m *Metrics) ensure(policy corev1.PullPolicy, present, required tri) {
	if m != nil {
		m.ensured.WithLabelValues(strings.ToLower(string(policy)), string(present), string(required)).Inc()
	}
}

// pulled notes how long the pull of an image took.
func (m *Metrics) pulled(size uint64, took time.Duration) {
	if m != nil {
		m.pulls.WithLabelValues(sizeClass(size)).Observe(took.Seconds())
	}
}

// Why an image was collected.
const (
	forAge   = "age"
	forSpace = "space"
)

func (m *Metrics) gone(reason string) {
	if m != nil {
		m.collected.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) checked(result checkResult) {
	if m != nil {
		m.checks.WithLabelValues(string(result)).Inc()
	}
}

// sizeClasses are where upstream's classes of images begin.
var sizeClasses = []struct {
	above uint64
	label string
}{
	{100 << 30, "GT100GB"}, {60 << 30, "60GB-100GB"}, {40 << 30, "40GB-60GB"}, {30 << 30, "30GB-40GB"}, {20 << 30, "20GB-30GB"}, {10 << 30, "10GB-20GB"},
	{5 << 30, "5GB-10GB"}, {1 << 30, "1GB-5GB"}, {500 << 20, "500MB-1GB"}, {100 << 20, "100MB-500MB"}, {10 << 20, "10MB-100MB"}, {0, "0-10MB"},
}

func sizeClass(size uint64) string {
	for _, c := range sizeClasses {
		if size > c.above {
			return c.label
		}
	}
	return "N/A"
}

var (
	pulledDesc  = prometheus.NewDesc("kubelet_imagemanager_ondisk_pulledrecords", "Number of ImagePulledRecords stored on disk.", nil, nil)
	pullingDesc = prometheus.NewDesc("kubelet_imagemanager_ondisk_pullintents", "Number of ImagePullIntents stored on disk.", nil, nil)
)

// Describe implements prometheus.Collector.
func (r *Records) Describe(out chan<- *prometheus.Desc) {
	out <- pulledDesc
	out <- pullingDesc
}

// Collect implements prometheus.Collector. The records are files: they are counted when somebody asks.
func (r *Records) Collect(out chan<- prometheus.Metric) {
	for desc, dir := range map[*prometheus.Desc]string{pulledDesc: r.pulled, pullingDesc: r.pulling} {
		if files, err := os.ReadDir(dir); err == nil {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(len(files)))
		}
	}
}
