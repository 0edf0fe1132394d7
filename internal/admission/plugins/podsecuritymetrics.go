package plugins

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	podsecurityapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
)

// podSecurityMetrics counts judgements under upstream's names.
type podSecurityMetrics struct {
	evaluations, exemptions, errors *prometheus.CounterVec
}

var _ metrics.Recorder = (*podSecurityMetrics)(nil)

func newPodSecurityMetrics(r prometheus.Registerer) (*podSecurityMetrics, error) {
	m := &podSecurityMetrics{
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pod_security_evaluations_total", Help: "Number of policy evaluations that occurred, not counting ignored or exempt requests."},
			[]string{"decision", "policy_level", "policy_version", "mode", "request_operation", "resource", "subresource"}),
		exemptions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pod_security_exemptions_total", Help: "Number of exempt requests, not counting ignored or out of scope requests."},
			[]string{"request_operation", "resource", "subresource"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pod_security_errors_total", Help: "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation."},
			[]string{"fatal", "request_operation", "resource", "subresource"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.evaluations, m.exemptions, m.errors} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of PodSecurity: %w", err)
		}
	}
	return m, nil
}

// RecordEvaluation implements metrics.Recorder.
func (m *podSecurityMetrics) RecordEvaluation(d metrics.Decision, p podsecurityapi.LevelVersion, mode metrics.Mode, a podsecurityapi.Attributes) {
	version, known := p.Version.String(), podsecurityapi.GetAPIVersion()
	switch {
	case p.Version.Latest() || p.Level == podsecurityapi.LevelPrivileged:
		version = "latest"
	case known.Older(p.Version):
		version = "future"
	}
	m.evaluations.WithLabelValues(append([]string{string(d), string(p.Level), version, string(mode)}, requestLabels(a)...)...).Inc()
}

// RecordExemption implements metrics.Recorder.
func (m *podSecurityMetrics) RecordExemption(a podsecurityapi.Attributes) {
	m.exemptions.WithLabelValues(requestLabels(a)...).Inc()
}

// RecordError implements metrics.Recorder.
func (m *podSecurityMetrics) RecordError(fatal bool, a podsecurityapi.Attributes) {
	m.errors.WithLabelValues(append([]string{strconv.FormatBool(fatal)}, requestLabels(a)...)...).Inc()
}

// requestLabels are operation, resource and subresource.
func requestLabels(a podsecurityapi.Attributes) []string {
	resource := "controller"
	switch a.GetResource().GroupResource() {
	case corev1.Resource("pods"):
		resource = "pod"
	case corev1.Resource("namespaces"):
		resource = "namespace"
	}
	return []string{strings.ToLower(string(a.GetOperation())), resource, a.GetSubresource()}
}
