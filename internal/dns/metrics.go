package dns

import (
	"net"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the DNS server's, by CoreDNS' names. A nil *Metrics is silent.
type Metrics struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	hits      prometheus.Counter
	misses    prometheus.Counter
}

// NewMetrics registers the DNS server's metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coredns_dns_requests_total", Help: "Counter of DNS requests made per zone, protocol and family.",
		}, []string{"server", "zone", "view", "proto", "family", "type"}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coredns_dns_responses_total", Help: "Counter of response status codes.",
		}, []string{"server", "zone", "view", "rcode", "plugin"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coredns_dns_request_duration_seconds", Help: "Histogram of the time (in seconds) each request took per zone.",
			Buckets: []float64{.00025, .0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1.024, 2.048, 4.096, 8.192},
		}, []string{"server", "zone", "view"}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coredns_cache_hits_total", Help: "The count of cache hits.",
		}),
		misses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coredns_cache_misses_total", Help: "The count of cache misses.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.responses, m.duration, m.hits, m.misses} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) answered(w dns.ResponseWriter, r, reply *dns.Msg, took time.Duration) {
	if m == nil {
		return
	}
	proto, family, qtype := "udp", "1", "other"
	if _, tcp := w.LocalAddr().(*net.TCPAddr); tcp {
		proto = "tcp"
	}
	if host, _, err := net.SplitHostPort(w.RemoteAddr().String()); err == nil && net.ParseIP(host).To4() == nil {
		family = "2"
	}
	if len(r.Question) == 1 {
		switch t := r.Question[0].Qtype; t {
		case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeNS, dns.TypePTR, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY, dns.TypeMX:
			qtype = dns.TypeToString[t]
		}
	}
	const server, zone = "dns://:53", "."
	plugin := "forward"
	if reply.Authoritative {
		plugin = "kubernetes"
	}
	m.requests.WithLabelValues(server, zone, "", proto, family, qtype).Inc()
	m.responses.WithLabelValues(server, zone, "", dns.RcodeToString[reply.Rcode], plugin).Inc()
	m.duration.WithLabelValues(server, zone, "").Observe(took.Seconds())
}

func (m *Metrics) cacheHit() {
	if m != nil {
		m.hits.Inc()
	}
}

func (m *Metrics) cacheMiss() {
	if m != nil {
		m.misses.Inc()
	}
}
