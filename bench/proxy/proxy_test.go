// Package proxy measures what a change costs the service proxy when there are many Services.
//
//	go test -bench . ./bench/proxy
package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/netlab"
	"clipper.dev/clipper/internal/proxy"
	"clipper.dev/clipper/internal/proxy/nftables"
)

func service(i int) *corev1.Service {
	ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"a": "b"},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
}

func slice(i, version, endpoints int) *discoveryv1.EndpointSlice {
	name, protocol, port := "", corev1.ProtocolTCP, int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("svc-%d-x", i),
			Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("svc-%d", i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for e := range endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", (i+version)%250, e+1)}})
	}
	return s
}

// BenchmarkChange is all endpoints of one Service being replaced, among other Services.
func BenchmarkChange(b *testing.B) {
	change(b, func(i int) int { return 5 })
}

// BenchmarkScale is the number of one Service's endpoints changing.
func BenchmarkScale(b *testing.B) {
	change(b, func(i int) int { return 4 + i%2*2 })
}

func change(b *testing.B, endpoints func(i int) int) {
	for _, services := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			lab := netlab.New(b)
			model, backend := fill(b, lab, services)
			b.ResetTimer()
			for i := range b.N {
				model.SetSlice(slice(i%services, i+1, endpoints(i)))
				if err := backend.Sync(b.Context(), model.Take()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart is the first sync of a process, with all Services there.
func BenchmarkStart(b *testing.B) {
	lab := netlab.New(b)
	for range b.N {
		fill(b, lab, 5000)
	}
}

func fill(b *testing.B, lab *netlab.Space, services int) (*proxy.Model, proxy.Backend) {
	b.Helper()
	model := proxy.NewModel("node")
	for i := range services {
		model.SetService(service(i))
		model.SetSlice(slice(i, 0, 5))
	}
	var backend proxy.Backend
	var err error
	lab.Do(func() {
		backend, err = nftables.New(nftables.Config{Table: "bench", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}})
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := backend.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := backend.Sync(b.Context(), model.Take()); err != nil {
		b.Fatal(err)
	}
	return model, backend
}
