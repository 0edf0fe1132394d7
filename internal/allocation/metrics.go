package allocation

import (
	"context"
	"errors"
	"math/big"
	"math/bits"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics tell what is given out, under upstream's names.
type metrics struct {
	addresses, addressErrors *prometheus.CounterVec
	addressTimes             *prometheus.HistogramVec
	ports, portErrors        *prometheus.CounterVec

	addressFaults, portFaults     *prometheus.CounterVec // found by repair
	addressFailures, portFailures prometheus.Counter     // of repair
}

const (
	dynamic = "dynamic" // any was wanted
	static  = "static"  // one was asked for by name
)

func newMetrics() *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		addresses:     vec("kube_apiserver_clusterip_allocator_allocation_total", "Number of Cluster IPs allocations", "cidr", "scope"),
		addressErrors: vec("kube_apiserver_clusterip_allocator_allocation_errors_total", "Number of errors trying to allocate Cluster IPs", "cidr", "scope"),
		addressTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kube_apiserver_clusterip_allocator_allocation_duration_seconds", Help: "Duration in seconds to allocate a Cluster IP by ServiceCIDR", Buckets: prometheus.DefBuckets,
		}, []string{"cidr"}),
		ports:      vec("kube_apiserver_nodeport_allocator_allocation_total", "Number of NodePort allocations", "scope"),
		portErrors: vec("kube_apiserver_nodeport_allocator_allocation_errors_total", "Number of errors trying to allocate NodePort", "scope"),
		addressFaults: vec("apiserver_clusterip_repair_ip_errors_total",
			"Number of errors detected on clusterips by the repair loop broken down by type of error: leak, repair, full, outOfRange, duplicate, unknown, invalid", "type"),
		addressFailures: counter("apiserver_clusterip_repair_reconcile_errors_total", "Number of reconciliation failures on the clusterip repair reconcile loop"),
		portFaults: vec("apiserver_nodeport_repair_port_errors_total",
			"Number of errors detected on ports by the repair loop broken down by type of error: leak, repair, full, outOfRange, duplicate, unknown", "type"),
		portFailures: counter("apiserver_nodeport_repair_reconcile_errors_total", "Number of reconciliation failures on the nodeport repair reconcile loop"),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.addresses, m.addressErrors, m.addressTimes, m.ports, m.portErrors, m.addressFaults, m.addressFailures, m.portFaults, m.portFailures,
	}
}

// address counts one attempt to reserve an address of a range.
func (m *metrics) address(cidr, scope string, began time.Time, err error) {
	if err != nil {
		m.addressErrors.WithLabelValues(cidr, scope).Inc()
		return
	}
	m.addresses.WithLabelValues(cidr, scope).Inc()
	m.addressTimes.WithLabelValues(cidr).Observe(time.Since(began).Seconds())
}

// port counts one attempt to reserve a node port.
func (m *metrics) port(scope string, err error) {
	if err != nil {
		m.portErrors.WithLabelValues(scope).Inc()
		return
	}
	m.ports.WithLabelValues(scope).Inc()
}

// foundAddress counts what repair found about an address: "leak" or "repair".
func (m *metrics) foundAddress(fault string, err error) {
	m.addressFaults.WithLabelValues(fault).Inc()
	if err != nil {
		m.addressFailures.Inc()
	}
}

// holdings tell, when they are asked for, how much is given out.
type holdings struct{ a *Allocator }

var (
	takenAddresses = prometheus.NewDesc("kube_apiserver_clusterip_allocator_allocated_ips", "Gauge measuring the number of allocated IPs for Services", []string{"cidr"}, nil)
	freeAddresses  = prometheus.NewDesc("kube_apiserver_clusterip_allocator_available_ips", "Gauge measuring the number of available IPs for Services", []string{"cidr"}, nil)
	takenPorts     = prometheus.NewDesc("kube_apiserver_nodeport_allocator_allocated_ports", "Gauge measuring the number of allocated NodePorts for Services", nil, nil)
	freePorts      = prometheus.NewDesc("kube_apiserver_nodeport_allocator_available_ports", "Gauge measuring the number of available NodePorts for Services", nil, nil)
)

// Describe implements prometheus.Collector.
func (h holdings) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{takenAddresses, freeAddresses, takenPorts, freePorts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (h holdings) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	taken := map[netip.Prefix]int{}
	ranges := h.a.addresses.ranges(ctx)
	for _, a := range h.a.addresses.taken.List("", nil) {
		if ip, err := netip.ParseAddr(a.Name); err == nil {
			taken[rangeOf(ranges, ip)]++
		}
	}
	for _, p := range ranges {
		gauge(takenAddresses, float64(taken[p]), p.String())
		gauge(freeAddresses, float64(usable(p))-float64(taken[p]), p.String())
	}
	ports := 0
	err := h.a.ports.record.look(ctx, func(set *big.Int) error {
		for _, word := range set.Bits() {
			ports += bits.OnesCount(uint(word))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNoRecord) {
		return
	}
	gauge(takenPorts, float64(ports))
	gauge(freePorts, float64(int(h.a.ports.last-h.a.ports.first)+1-ports))
}

// rangeOf returns the range that an address is of; the zero one if it is of none.
func rangeOf(ranges []netip.Prefix, ip netip.Addr) netip.Prefix {
	for _, p := range ranges {
		if p.Contains(ip) {
			return p
		}
	}
	return netip.Prefix{}
}
