package kubernetesservice

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func TestTheServiceAndItsAddressesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New()
		var servers atomic.Int32
		servers.Store(1)
		cfg := Config{ServiceIP: netip.MustParseAddr("10.96.0.1"), Port: 6443, Addresses: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")}[2-servers.Load():]
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{Constructor(cfg)})
		}()
		time.Sleep(time.Second)
		svc, err := client.Services.Get(ctx, c, "default", "kubernetes")
		if err != nil || svc.Spec.ClusterIP != "10.96.0.1" || svc.Spec.Ports[0].TargetPort.IntVal != 6443 {
			t.Fatalf("got %v, %v", svc, err)
		}
		if err := client.Endpoints.Delete(ctx, c, "default", "kubernetes", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		servers.Store(2)
		time.Sleep(15 * time.Second)
		e, err := client.Endpoints.Get(ctx, c, "default", "kubernetes")
		if err != nil || len(e.Subsets[0].Addresses) != 2 || e.Subsets[0].Addresses[0].IP != "192.0.2.1" {
			t.Errorf("got %v, %v", e, err)
		}
		s, err := client.EndpointSlices.Get(ctx, c, "default", "kubernetes")
		if err != nil || len(s.Endpoints) != 2 || s.Labels["kubernetes.io/service-name"] != "kubernetes" {
			t.Errorf("got %v, %v", s, err)
		}
		before := len(c.Writes())
		time.Sleep(time.Hour)
		if after := len(c.Writes()); after != before {
			t.Errorf("%d writes in an hour without change", after-before)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
