package oidc

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measures all issuers, under upstream's names.
type Metrics struct {
	server  string
	latency *prometheus.HistogramVec
	fetched *prometheus.GaugeVec
	keys    *prometheus.GaugeVec
}

// NewMetrics makes and registers the metrics; server is this API server's identity.
func NewMetrics(r prometheus.Registerer, server string) (*Metrics, error) {
	m := &Metrics{
		server: hash([]byte(server)),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_authentication_jwt_authenticator_latency_seconds",
			Help:    "Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for cache miss only (i.e. when the token is not found in the cache).",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"result", "jwt_issuer_hash"}),
		fetched: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
			Help: "Timestamp of the last successful or failed JWKS fetch split by result, api server identity and jwt issuer for the JWT authenticator.",
		}, []string{"result", "jwt_issuer_hash", "apiserver_id_hash"}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info",
			Help: "Information about the last JWKS fetched by the JWT authenticator with hash as label, split by api server identity and jwt issuer.",
		}, []string{"jwt_issuer_hash", "apiserver_id_hash", "hash"}),
	}
	for _, c := range []prometheus.Collector{m.latency, m.fetched, m.keys} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of OIDC: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) authenticated(issuer string, err error, took time.Duration) {
	if m == nil {
		return
	}
	m.latency.WithLabelValues(result(err), hash([]byte(issuer))).Observe(took.Seconds())
}

func result(err error) string {
	if err != nil {
		return "failure"
	}
	return "success"
}

// observeKeys notes each time that an issuer's keys are fetched.
func (m *Metrics) observeKeys(base http.RoundTripper, url, issuer string) http.RoundTripper {
	if m == nil {
		return base
	}
	return &keyObserver{base: base, metrics: m, url: url, issuer: hash([]byte(issuer))}
}

type keyObserver struct {
	base        http.RoundTripper
	metrics     *Metrics
	url, issuer string
}

func (o *keyObserver) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.base.RoundTrip(r)
	if r.URL.String() != o.url {
		return resp, err
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		o.note(nil, fmt.Errorf("status %s", resp.Status))
		return resp, nil
	}
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	if err != nil {
		o.note(nil, err)
		return nil, err
	}
	var keys jose.JSONWebKeySet
	o.note(body, json.Unmarshal(body, &keys))
	return resp, nil
}

func (o *keyObserver) note(body []byte, err error) {
	m := o.metrics
	m.fetched.WithLabelValues(result(err), o.issuer, m.server).Set(float64(time.Now().Unix()))
	if err == nil {
		m.keys.DeletePartialMatch(prometheus.Labels{"jwt_issuer_hash": o.issuer})
		m.keys.WithLabelValues(o.issuer, m.server, hash(body)).Set(1)
	}
}

func hash(content []byte) string {
	if len(content) == 0 {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}
