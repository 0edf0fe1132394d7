package authn

import "github.com/prometheus/client_golang/prometheus"

// tokenMetrics count the uses of service account tokens, under upstream's names.
type tokenMetrics struct {
	legacy, automatic, manual, invalidated, stale, valid prometheus.Counter
}

func newTokenMetrics(reg prometheus.Registerer) *tokenMetrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "serviceaccount_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &tokenMetrics{
		legacy:      counter("legacy_tokens_total", "Cumulative legacy service account tokens used"),
		automatic:   counter("legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used"),
		manual:      counter("legacy_manual_token_uses_total", "Cumulative manually created legacy tokens used"),
		invalidated: counter("invalid_legacy_auto_token_uses_total", "Cumulative invalid auto-generated legacy tokens used"),
		stale:       counter("stale_tokens_total", "Cumulative stale projected service account tokens used"),
		valid:       counter("valid_tokens_total", "Cumulative valid projected service account tokens used"),
	}
}
