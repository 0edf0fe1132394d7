package allocation

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/store/storetest"
)

// A Service may name a port for health checks that it doesn't need, as what old releases stored does: the port is not its own.
func TestAPortForHealthChecksBelongsToAServiceThatNeedsIt(t *testing.T) {
	a := &Allocator{ports: *newBook(t, storetest.New(t))}
	if err := a.ports.repair(t.Context(), with()); err != nil {
		t.Fatal(err)
	}
	balanced := func(policy corev1.ServiceExternalTrafficPolicy) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: policy, HealthCheckNodePort: 30007, AllocateLoadBalancerNodePorts: new(false)}}
	}
	local, cluster := balanced(corev1.ServiceExternalTrafficPolicyLocal), balanced(corev1.ServiceExternalTrafficPolicyCluster)
	assign := func(s, old *corev1.Service) error {
		var tx transaction
		err := a.assignPorts(t.Context(), &tx, s, old, false)
		tx.end(err == nil)
		return err
	}
	if err := assign(local.DeepCopy(), nil); err != nil {
		t.Fatalf("the first Service: %v", err)
	}
	if err := assign(local.DeepCopy(), local); err != nil {
		t.Errorf("an update of the first: %v", err)
	}
	if err := assign(local.DeepCopy(), cluster); err == nil || !strings.Contains(err.Error(), "failed to allocate requested HealthCheck NodePort 30007: provided port is already allocated") {
		t.Errorf("another that comes to need the same: %v", err)
	}
	other := cluster.DeepCopy()
	other.Spec.Type = corev1.ServiceTypeClusterIP
	if err := assign(other, cluster); err != nil || !a.ports.taken(t.Context(), 30007) {
		t.Errorf("after another has stopped to name it, the port is free: %v", err)
	}
	if err := assign(balanced(corev1.ServiceExternalTrafficPolicyCluster), local); err != nil || a.ports.taken(t.Context(), 30007) {
		t.Errorf("after the first has stopped to need it, the port is taken: %v", err)
	}
	if held := heldPorts(cluster); !slices.Equal(held, []int32(nil)) {
		t.Errorf("deletion would free %v", held)
	}
}
