package fairness

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// A meter is a histogram of a ratio over time: each nanosecond counts once, in the bucket of the value at its end.
type meter struct {
	bounds      []float64
	weights     []uint64 // one more than bounds
	sum         float64
	value       float64
	denominator float64
	bucket      int
	since       int64
}

func newMeter(bounds []float64, now int64) meter {
	return meter{bounds: bounds, weights: make([]uint64, len(bounds)+1), denominator: 1, since: now}
}

// catchUp counts the time since the last change.
func (m *meter) catchUp(now int64) {
	if now <= m.since {
		return
	}
	m.weights[m.bucket] += uint64(now - m.since)
	m.sum += m.value / m.denominator * float64(now-m.since)
	m.since = now
}

func (m *meter) set(now int64, value float64) {
	if value == m.value {
		return
	}
	m.catchUp(now)
	m.value = value
	m.place()
}

func (m *meter) scale(now int64, denominator float64) {
	m.catchUp(now)
	m.denominator = denominator
	m.place()
}

func (m *meter) place() {
	ratio := m.value / m.denominator
	for m.bucket = 0; m.bucket < len(m.bounds) && ratio > m.bounds[m.bucket]; m.bucket++ {
	}
}

// metric is the histogram up to now.
func (m *meter) metric(d *prometheus.Desc, now int64, labels ...string) prometheus.Metric {
	m.catchUp(now)
	return constHistogram(d, m.bounds, m.weights, m.sum, labels)
}

// constHistogram makes a series out of the counts of single buckets.
func constHistogram(d *prometheus.Desc, bounds []float64, counts []uint64, sum float64, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	var total uint64
	for i, bound := range bounds {
		total += counts[i]
		buckets[bound] = total
	}
	total += counts[len(bounds)]
	return prometheus.MustNewConstHistogram(d, total, sum, buckets, labels...)
}

// maxBuckets is more than any histogram here has bounds.
const maxBuckets = 16

// A histogram counts observations.
type histogram struct {
	bounds []float64
	counts [maxBuckets]uint64
	n      uint64
	sum    float64
}

func (h *histogram) observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i]++
	h.n++
	h.sum += v
}

func (h *histogram) metric(d *prometheus.Desc, labels ...string) prometheus.Metric {
	return constHistogram(d, h.bounds, h.counts[:], h.sum, labels)
}

// An integral watches a quantity over a period: its mean, its deviation and its peak.
type integral struct {
	value, peak   float64
	began, since  int64
	first, second float64 // the integrals of the value and of its square
}

func (i *integral) begin(now int64) {
	*i = integral{value: i.value, peak: i.value, began: now, since: now}
}

func (i *integral) catchUp(now int64) {
	dt := seconds(now - i.since)
	i.first += i.value * dt
	i.second += i.value * i.value * dt
	i.since = now
}

func (i *integral) set(now int64, value float64) {
	if value == i.value {
		return
	}
	i.catchUp(now)
	i.value = value
	i.peak = max(i.peak, value)
}

// end returns what the period was like and begins the next one. ok is false for a period without duration.
func (i *integral) end(now int64) (mean, deviation, peak float64, ok bool) {
	i.catchUp(now)
	peak = i.peak
	if lasted := seconds(now - i.began); lasted > 0 {
		mean, ok = i.first/lasted, true
		deviation = math.Sqrt(max(0, i.second/lasted-mean*mean))
	}
	i.begin(now)
	return mean, deviation, peak, ok
}
