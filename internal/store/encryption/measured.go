package encryption

import (
	"bytes"
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"

	"clipper.dev/clipper/internal/store"
)

// measured counts and times what a resource's transformer does.
type measured struct {
	store.Transformer
	resource string
	metrics  *Metrics
}

// measure returns a transformer that is measured, if there is one and something to measure it with.
func (m *Metrics) measure(t store.Transformer, resource string) store.Transformer {
	if m == nil || t == nil {
		return t
	}
	return measured{t, resource, m}
}

// FromStorage implements store.Transformer.
func (m measured) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	began := time.Now()
	out, stale, err := m.Transformer.FromStorage(ctx, key, data)
	m.metrics.transformed(m.resource, "from_storage", providerOf(data), began, err)
	return out, stale, err
}

// ToStorage implements store.Transformer.
func (m measured) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	began := time.Now()
	out, err := m.Transformer.ToStorage(ctx, key, data)
	m.metrics.transformed(m.resource, "to_storage", providerOf(out), began, err)
	return out, err
}

// providerOf is the prefix of a stored value that names its provider, as upstream calls it: a plugin's holds its name, others' no key's.
func providerOf(data []byte) string {
	parts, end := 4, 0
	switch {
	case bytes.HasPrefix(data, []byte("k8s:enc:kms:")):
		parts = 5
	case !bytes.HasPrefix(data, []byte("k8s:enc:")):
		return "identity"
	}
	for range parts {
		i := bytes.IndexByte(data[end:], ':')
		if i < 0 {
			return "unknown"
		}
		end += i + 1
	}
	return string(data[:end])
}

// transformation is what is counted together.
type transformation struct{ resource, direction, provider string }

type transformationSeries struct {
	ok   prometheus.Counter
	took prometheus.Observer
}

func (m *Metrics) transformed(resource, direction, provider string, began time.Time, err error) {
	if err != nil {
		m.operations.WithLabelValues(resource, status.Code(err).String(), direction, provider).Inc()
		return
	}
	key := transformation{resource, direction, provider}
	s, ok := m.series.Load(key)
	if !ok {
		s, _ = m.series.LoadOrStore(key, &transformationSeries{
			m.operations.WithLabelValues(resource, "OK", direction, provider), m.times.WithLabelValues(direction, provider),
		})
	}
	series := s.(*transformationSeries)
	series.ok.Inc()
	series.took.Observe(time.Since(began).Seconds())
}

// madeKey counts a new data key.
func (m *Metrics) madeKey(began time.Time, err error) {
	switch {
	case m == nil:
	case err != nil:
		m.keyFailures.Inc()
	default:
		m.keyTimes.Observe(time.Since(began).Seconds())
	}
}

// missedKey counts a data key that had to be asked for; cached is how many are known then.
func (m *Metrics) missedKey(provider string, cached int) {
	if m == nil {
		return
	}
	m.misses.Inc()
	m.keysCached.WithLabelValues(provider).Set(float64(cached))
}
