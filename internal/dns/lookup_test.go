package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testService(name, clusterIP string, change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}, {Name: "quic", Protocol: corev1.ProtocolUDP, Port: 443}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

// testSlice makes endpoints from "10.0.0.1", "10.0.0.1=hostname" and "!10.0.0.1", which isn't ready.
func testSlice(service string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(8080))}},
	}
	for _, word := range endpoints {
		unready := strings.HasPrefix(word, "!")
		addr, host, named := strings.Cut(strings.TrimPrefix(word, "!"), "=")
		e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(!unready)}}
		if named {
			e.Hostname = ptr(host)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

func testZone() *Zone {
	z := NewZone("cluster.local", []netip.Addr{netip.MustParseAddr("10.96.0.10")})
	z.SetService(testService("web", "10.96.0.1", nil))
	z.SetSlice(testSlice("web", "10.0.0.1", "10.0.0.2"))
	z.SetService(testService("db", "None", nil))
	z.SetSlice(testSlice("db", "10.0.0.3=db-0", "10.0.0.4", "!10.0.0.5"))
	z.SetService(testService("early", "None", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }))
	z.SetSlice(testSlice("early", "!10.0.0.6"))
	z.SetService(testService("empty", "None", nil))
	z.SetService(testService("elsewhere", "", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ClusterIPs, s.Spec.ExternalName = corev1.ServiceTypeExternalName, nil, "example.com"
	}))
	z.SetService(testService("dual", "10.96.0.7", func(s *corev1.Service) { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00::7") }))
	z.SetReady()
	return z
}

// brief writes records without what is the same in all.
func brief(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.ReplaceAll(strings.TrimPrefix(rr.String(), rr.Header().String()), "cluster.local.", "CL"))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestLookup(t *testing.T) {
	tests := []struct {
		name   string
		qname  string
		qtype  uint16
		exists bool
		answer string
		extra  string
	}{
		{"service", "web.default.svc", dns.TypeA, true, "10.96.0.1", ""},
		{"service_in_capitals", "WEB.Default.SVC", dns.TypeA, true, "10.96.0.1", ""},
		{"service_without_the_other_family", "web.default.svc", dns.TypeAAAA, true, "", ""},
		{"service_in_two_families", "dual.default.svc", dns.TypeAAAA, true, "fd00::7", ""},
		{"service_port", "_http._tcp.web.default.svc", dns.TypeSRV, true, "0 100 80 web.default.svc.CL", "10.96.0.1"},
		{"service_port_of_other_protocol", "_http._udp.web.default.svc", dns.TypeSRV, false, "", ""},
		{"service_ports", "web.default.svc", dns.TypeSRV, true, "0 50 443 web.default.svc.CL, 0 50 80 web.default.svc.CL", "10.96.0.1"},
		{"node_above_a_port", "_tcp.web.default.svc", dns.TypeA, true, "", ""},
		{"node_above_no_port", "_sctp.web.default.svc", dns.TypeA, false, "", ""},
		{"endpoint_of_a_service", "10-0-0-1.web.default.svc", dns.TypeA, true, "10.0.0.1", ""},
		{"unknown_service", "none.default.svc", dns.TypeA, false, "", ""},
		{"unknown_namespace", "web.other.svc", dns.TypeA, false, "", ""},
		{"headless", "db.default.svc", dns.TypeA, true, "10.0.0.3, 10.0.0.4", ""},
		{"headless_with_unready", "early.default.svc", dns.TypeA, true, "10.0.0.6", ""},
		{"headless_without_endpoints", "empty.default.svc", dns.TypeA, true, "", ""},
		{"headless_hostname", "db-0.db.default.svc", dns.TypeA, true, "10.0.0.3", ""},
		{"headless_hostname_unknown", "db-1.db.default.svc", dns.TypeA, false, "", ""},
		{"headless_dashed_address", "10-0-0-4.db.default.svc", dns.TypeA, true, "10.0.0.4", ""},
		{"headless_port", "_http._tcp.db.default.svc", dns.TypeSRV, true,
			"0 50 8080 10-0-0-4.db.default.svc.CL, 0 50 8080 db-0.db.default.svc.CL", "10.0.0.3, 10.0.0.4"},
		{"external_name", "elsewhere.default.svc", dns.TypeA, true, "example.com.", ""},
		{"below_external_name", "x.elsewhere.default.svc", dns.TypeA, false, "", ""},
		{"namespace", "default.svc", dns.TypeA, true, "", ""},
		{"no_namespace", "other.svc", dns.TypeA, false, "", ""},
		{"services", "svc", dns.TypeA, true, "", ""},
		{"pod", "10-0-0-9.default.pod", dns.TypeA, true, "10.0.0.9", ""},
		{"pod_of_other_family", "10-0-0-9.default.pod", dns.TypeAAAA, true, "", ""},
		{"pod_with_IPv6", "fd00--1.default.pod", dns.TypeAAAA, true, "fd00::1", ""},
		{"pod_without_address", "web.default.pod", dns.TypeA, false, "", ""},
		{"version", "dns-version", dns.TypeTXT, true, `"1.1.0"`, ""},
		{"name_server", "", dns.TypeNS, true, "ns.dns.CL", "10.96.0.10"},
		{"name_servers_address", "ns.dns", dns.TypeA, true, "10.96.0.10", ""},
		{"unknown", "example", dns.TypeA, false, "", ""},
		{"too_deep", "a.b.c.web.default.svc", dns.TypeA, false, "", ""},
	}
	z := testZone()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name := strings.TrimPrefix(test.qname+".cluster.local.", ".")
			a := z.Lookup(name, test.qtype)
			if a.Exists != test.exists || brief(a.Answer) != test.answer || brief(a.Extra) != test.extra {
				t.Errorf("got %v, %q, %q", a.Exists, brief(a.Answer), brief(a.Extra))
			}
			for _, rr := range a.Answer {
				if rr.Header().Name != name {
					t.Errorf("the answer is about %s", rr.Header().Name)
				}
			}
		})
	}
}

func TestReverse(t *testing.T) {
	z := testZone()
	for addr, want := range map[string]string{
		"10.96.0.1": "web.default.svc.CL",
		"10.0.0.3":  "db-0.db.default.svc.CL",
		"10.0.0.4":  "10-0-0-4.db.default.svc.CL",
		"fd00::7":   "dual.default.svc.CL",
		"10.0.0.5":  "", // not ready
		"192.0.2.1": "",
	} {
		arpa, err := dns.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		a, ok := reverseAddress(arpa)
		if !ok || a.String() != addr {
			t.Errorf("reverseAddress(%s) = %s, %v", arpa, a, ok)
		}
		if got := brief(z.Reverse(arpa, a)); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}

func TestZoneForgetsWhatIsDeleted(t *testing.T) {
	z := testZone()
	for _, name := range []string{"web", "db", "early", "empty", "elsewhere", "dual"} {
		z.SetService(testService(name, "10.96.0.99", nil)) // a change before the end
		z.DeleteService("default", name)
		z.DeleteSlice("default", name, name+"-1")
	}
	if len(z.services)+len(z.endpoints)+len(z.namespaces)+len(z.clusterIPs)+len(z.addresses) != 0 {
		t.Errorf("left: %+v", z)
	}
}
