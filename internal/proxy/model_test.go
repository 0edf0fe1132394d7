package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testService(name string, change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

// testSlice makes endpoints from words such as "10.0.0.1", "10.0.0.2/local", "10.0.0.3/leaving",
// "10.0.0.4/unready", "10.0.0.5/zone=a" or "10.0.0.6/node=here"; attributes can follow each other.
func testSlice(service string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr(""), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(8080))}},
	}
	for _, word := range endpoints {
		parts := strings.Split(word, "/")
		e := discoveryv1.Endpoint{Addresses: parts[:1], NodeName: ptr("elsewhere"), Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}
		for _, attribute := range parts[1:] {
			name, value, _ := strings.Cut(attribute, "=")
			switch name {
			case "local":
				e.NodeName = ptr("here")
			case "leaving":
				e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
			case "unready":
				e.Conditions.Ready = ptr(false)
			case "zone":
				e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: value}}}
			case "node":
				if e.Hints == nil {
					e.Hints = &discoveryv1.EndpointHints{}
				}
				e.Hints.ForNodes = []discoveryv1.ForNode{{Name: value}}
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

func nodePortService(s *corev1.Service) {
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports[0].NodePort = 30080
}

func externalLocal(s *corev1.Service) {
	nodePortService(s)
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalOnly(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
}

// show writes backends as the last numbers of their addresses, or as the verdict.
func show(b Backends) string {
	if len(b.Endpoints) == 0 {
		return [...]string{Reject: "reject", Drop: "drop"}[b.Otherwise]
	}
	var out []string
	for _, e := range b.Endpoints {
		out = append(out, fmt.Sprint(e.Addr().As4()[3]))
	}
	return strings.Join(out, " ")
}

func TestEndpointsAreChosen(t *testing.T) {
	tests := []struct {
		name               string
		service            func(*corev1.Service)
		endpoints          []string
		internal, external string // external is "" for a Service that has none
	}{
		{"ready_ones_everywhere", nil, []string{"10.0.0.1/local", "10.0.0.2", "10.0.0.3/unready"}, "1 2", ""},
		{"none_is_a_rejection", nil, nil, "reject", ""},
		{"unready_ones_are_none", nil, []string{"10.0.0.1/unready"}, "reject", ""},
		{"leaving_ones_only_when_alone", nil, []string{"10.0.0.1/leaving", "10.0.0.2"}, "2", ""},
		{"leaving_ones_when_alone", nil, []string{"10.0.0.1/leaving", "10.0.0.2/unready"}, "1", ""},
		{"internal_local", internalOnly, []string{"10.0.0.1/local", "10.0.0.2"}, "1", ""},
		{"internal_local_with_none_here", internalOnly, []string{"10.0.0.2"}, "drop", ""},
		{"internal_local_with_none_anywhere", internalOnly, nil, "reject", ""},
		{"external_cluster", nodePortService, []string{"10.0.0.1/local", "10.0.0.2"}, "1 2", "1 2"},
		{"external_local", externalLocal, []string{"10.0.0.1/local", "10.0.0.2"}, "1 2", "1"},
		{"external_local_with_none_here", externalLocal, []string{"10.0.0.2"}, "2", "drop"},
		{"external_local_falls_back_to_leaving", externalLocal, []string{"10.0.0.1/local/leaving", "10.0.0.2"}, "2", "1"},
		{"zone_hints", nil, []string{"10.0.0.1/zone=a", "10.0.0.2/zone=b"}, "1", ""},
		{"zone_hints_are_ignored_if_one_is_missing", nil, []string{"10.0.0.1/zone=a", "10.0.0.2"}, "1 2", ""},
		{"zone_hints_are_ignored_if_none_is_for_us", nil, []string{"10.0.0.1/zone=b", "10.0.0.2/zone=c"}, "1 2", ""},
		{"node_hints_come_before_zone_hints", nil, []string{"10.0.0.1/zone=a/node=there", "10.0.0.2/zone=a/node=here"}, "2", ""},
		{"node_hints_for_others_leave_the_zone", nil, []string{"10.0.0.1/zone=a/node=there", "10.0.0.2/zone=b/node=there"}, "1", ""},
		{"hints_of_unready_ones_do_not_count", nil, []string{"10.0.0.1/zone=a", "10.0.0.2/zone=b", "10.0.0.3/unready"}, "1", ""},
		{"local_policy_ignores_hints", internalOnly, []string{"10.0.0.1/local/zone=b", "10.0.0.2/zone=a"}, "1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := NewModel("here")
			m.SetNodeLabels(map[string]string{corev1.LabelTopologyZone: "a"})
			m.SetService(testService("web", test.service))
			m.SetSlice(testSlice("web", test.endpoints...))
			changes := m.Take()
			if len(changes) != 1 {
				t.Fatalf("changes: %+v", changes)
			}
			p := changes[0].New
			if got := show(p.Internal); got != test.internal {
				t.Errorf("internal: %s, want %s", got, test.internal)
			}
			if test.external == "" {
				return
			}
			if got := show(p.External); got != test.external {
				t.Errorf("external: %s, want %s", got, test.external)
			}
		})
	}
}

func TestServicesWithoutPorts(t *testing.T) {
	tests := map[string]func(*corev1.Service){
		"headless":      func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"external_name": func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = "ExternalName", "", nil },
		"other_proxy":   func(s *corev1.Service) { s.Labels = map[string]string{serviceProxyName: "other"} },
		"node_local":    func(s *corev1.Service) { s.Spec.ClusterIPs, s.Spec.Selector = []string{"10.96.0.10"}, nil },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			m := NewModel("here", netip.MustParseAddr("10.96.0.10"))
			m.SetService(testService("web", nil))
			m.Take()
			m.SetService(testService("web", change))
			if changes := m.Take(); len(changes) != 1 || changes[0].New != nil || changes[0].Old == nil {
				t.Errorf("changes: %+v", changes)
			}
		})
	}
}

func TestTakeReturnsDifferencesAlone(t *testing.T) {
	m := NewModel("here")
	m.SetSlice(testSlice("web", "10.0.0.1"))
	if changes := m.Take(); len(changes) != 0 {
		t.Errorf("a slice without its service: %+v", changes)
	}
	m.SetService(testService("web", nil))
	m.SetService(testService("db", nil))
	if changes := m.Take(); len(changes) != 2 || changes[0].Key().Service.Name != "db" || show(changes[1].New.Internal) != "1" {
		t.Errorf("changes: %+v", changes)
	}
	m.SetSlice(testSlice("web", "10.0.0.1"))
	if changes := m.Take(); len(changes) != 0 {
		t.Errorf("the same again: %+v", changes)
	}
	second := testSlice("web", "10.0.0.1/unready", "10.0.0.2")
	second.Name = "web-2"
	m.SetSlice(second)
	if changes := m.Take(); len(changes) != 1 || show(changes[0].New.Internal) != "1 2" {
		t.Errorf("a second slice: %+v", changes)
	}
	m.DeleteSlice("default", "web", "web-1")
	if changes := m.Take(); len(changes) != 1 || show(changes[0].New.Internal) != "2" {
		t.Errorf("the first slice went: %+v", changes)
	}
	m.DeleteService("default", "web")
	m.DeleteService("default", "db")
	m.DeleteSlice("default", "web", "web-2")
	if changes := m.Take(); len(changes) != 2 || changes[0].New != nil || len(m.services) != 0 {
		t.Errorf("all went: %+v, left %d", changes, len(m.services))
	}
}

func TestHealthChecksCountEndpointsOfTheNode(t *testing.T) {
	m := NewModel("here")
	m.SetService(testService("web", func(s *corev1.Service) {
		externalLocal(s)
		s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 31000
	}))
	m.SetSlice(testSlice("web", "10.0.0.1/local", "10.0.0.2/local/leaving", "10.0.0.3"))
	m.Take()
	got := m.HealthChecks()
	if len(got) != 1 || got[0].Port != 31000 || got[0].LocalEndpoints != 1 || got[0].Service.Name != "web" {
		t.Errorf("checks: %+v", got)
	}
}

func TestDualStackServicesHavePortsInBothFamilies(t *testing.T) {
	m := NewModel("here")
	m.SetService(testService("web", func(s *corev1.Service) {
		s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"}
		s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24", "2001:db8::/32"}
	}))
	six := testSlice("web", "fd00::10:1")
	six.Name, six.AddressType = "web-6", discoveryv1.AddressTypeIPv6
	m.SetSlice(six)
	m.SetSlice(testSlice("web", "10.0.0.1"))
	changes := m.Take()
	if len(changes) != 2 {
		t.Fatalf("changes: %+v", changes)
	}
	for i, want := range []string{"10.0.0.1:8080", "[fd00::10:1]:8080"} {
		p := changes[i].New
		if p.IPv6 != (i == 1) || len(p.Internal.Endpoints) != 1 || p.Internal.Endpoints[0].String() != want || len(p.SourceRanges) != 1 {
			t.Errorf("family %d: %+v", i, p)
		}
	}
	if !slices.IsSortedFunc(changes, func(a, b Change) int { return compareKeys(a.Key(), b.Key()) }) {
		t.Error("changes aren't sorted")
	}
}
