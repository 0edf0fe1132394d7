package endpointslicemirroring

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func endpoints(ips ...string) *corev1.Endpoints {
	s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}
	for _, ip := range ips {
		s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
	}
	return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ext", Labels: map[string]string{"a": "b"}}, Subsets: []corev1.EndpointSubset{s}}
}

func TestEndpointsAreMirroredByFamily(t *testing.T) {
	p := makePlan(endpoints("192.0.2.1", "2001:db8::1", "192.0.2.2"), nil)
	if len(p.create) != 2 {
		t.Fatalf("creates %d", len(p.create))
	}
	four := p.create[0]
	if four.AddressType != discoveryv1.AddressTypeIPv4 || len(four.Endpoints) != 2 || four.Labels[discoveryv1.LabelServiceName] != "ext" || four.Labels["a"] != "b" || four.OwnerReferences[0].Kind != "Endpoints" {
		t.Errorf("got %+v", four)
	}
	if again := makePlan(endpoints("192.0.2.1", "2001:db8::1", "192.0.2.2"), p.create); len(again.create)+len(again.update)+len(again.delete) > 0 {
		t.Errorf("a second look changes %+v", again)
	}
	if less := makePlan(endpoints("192.0.2.1"), p.create); len(less.update) != 1 || len(less.delete) != 1 || len(less.create) != 0 {
		t.Errorf("got %+v", less)
	}
}

func TestWhatIsNotMirrored(t *testing.T) {
	for name, change := range map[string]func(*corev1.Endpoints){
		"what asks for it":                   func(e *corev1.Endpoints) { e.Labels[discoveryv1.LabelSkipMirror] = "true" },
		"what the endpoints controller made": func(e *corev1.Endpoints) { e.Labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller" },
		"what serves an election": func(e *corev1.Endpoints) {
			e.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := endpoints("192.0.2.1")
			change(e)
			if mirrored(e) {
				t.Error("it is mirrored")
			}
		})
	}
}
