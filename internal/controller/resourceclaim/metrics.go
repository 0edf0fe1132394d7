package resourceclaim

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	resourcev1 "k8s.io/api/resource/v1"

	"clipper.dev/clipper/internal/client"
)

// metrics are upstream's, by name and label.
type metrics struct {
	creates *prometheus.CounterVec
	claims  client.TypedView[*resourcev1.ResourceClaim]
}

var claimsDesc = prometheus.NewDesc("resourceclaim_controller_resource_claims",
	"Number of ResourceClaims, categorized by allocation status, admin access, and source. Source can be 'resource_claim_template' (created from a template), "+
		"'extended_resource' (extended resources), or empty (manually created by a user).", []string{"allocated", "admin_access", "source"}, nil)

func newMetrics(claims client.TypedView[*resourcev1.ResourceClaim]) *metrics {
	return &metrics{
		claims: claims,
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "resourceclaim_controller_creates_total",
			Help: "Number of ResourceClaims creation requests, categorized by creation status and admin access",
		}, []string{"status", "admin_access"}),
	}
}

func (m *metrics) created(claim *resourcev1.ResourceClaim, err error) {
	status := "success"
	if err != nil {
		status = "failure"
	}
	m.creates.WithLabelValues(status, strconv.FormatBool(administers(claim))).Inc()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.creates.Describe(ch)
	ch <- claimsDesc
}

// Collect implements prometheus.Collector: the claims are counted when somebody asks.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.creates.Collect(ch)
	type labels struct {
		allocated, admin bool
		source           string
	}
	counts := map[labels]int{}
	for _, c := range m.claims.List("", nil) {
		counts[labels{c.Status.Allocation != nil, administers(c), source(c)}]++
	}
	for l, n := range counts {
		ch <- prometheus.MustNewConstMetric(claimsDesc, prometheus.GaugeValue, float64(n), strconv.FormatBool(l.allocated), strconv.FormatBool(l.admin), l.source)
	}
}

// source tells what a claim was made from.
func source(c *resourcev1.ResourceClaim) string {
	switch {
	case c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true":
		return "extended_resource"
	case c.Annotations[resourcev1.PodResourceClaimAnnotation] != "":
		return "resource_claim_template"
	}
	return ""
}
