package authn

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// ImpersonationMetrics count who acts as somebody else, under upstream's names.
type ImpersonationMetrics struct {
	attempts, questions         *prometheus.CounterVec
	attemptTimes, questionTimes *prometheus.HistogramVec
}

// NewImpersonationMetrics makes and registers the metrics.
func NewImpersonationMetrics(r prometheus.Registerer) *ImpersonationMetrics {
	const prefix = "apiserver_impersonation_"
	labels, buckets := []string{"decision", "mode"}, prometheus.ExponentialBuckets(0.001, 2, 15)
	m := &ImpersonationMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "attempts_total", Help: "Total number of impersonation attempts split by mode and decision.",
		}, labels),
		attemptTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "attempts_duration_seconds", Help: "Latency of impersonation attempts in seconds split by mode and decision.", Buckets: buckets,
		}, labels),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "authorization_attempts_total", Help: "Total number of authorization checks made by the impersonation handler split by mode and decision.",
		}, labels),
		questionTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "authorization_attempts_duration_seconds", Buckets: buckets,
			Help: "Latency of authorization checks made by the impersonation handler in seconds split by mode and decision.",
		}, labels),
	}
	r.MustRegister(m.attempts, m.attemptTimes, m.questions, m.questionTimes)
	return m
}

func decided(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// tried counts a request's attempt.
func (m *ImpersonationMetrics) tried(mode string, allowed bool, took time.Duration) {
	if m == nil {
		return
	}
	m.attempts.WithLabelValues(decided(allowed), mode).Inc()
	m.attemptTimes.WithLabelValues(decided(allowed), mode).Observe(took.Seconds())
}

// counting is an authorizer that counts what it is asked in a mode.
func (m *ImpersonationMetrics) counting(az authorizer.Authorizer, of mode) authorizer.Authorizer {
	if m == nil {
		return az
	}
	return authorizer.AuthorizerFunc(func(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		began := time.Now()
		decision, reason, err := az.Authorize(ctx, a)
		allowed := decided(decision == authorizer.DecisionAllow)
		m.questions.WithLabelValues(allowed, of.label()).Inc()
		m.questionTimes.WithLabelValues(allowed, of.label()).Observe(time.Since(began).Seconds())
		return decision, reason, err
	})
}
