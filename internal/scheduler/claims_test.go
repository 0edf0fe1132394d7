package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// withDevices is a cluster of nodes a and b, of which b has a device of class "gpu".
func withDevices(t *testing.T, edit ...func(*resourcev1.Device)) *core {
	t.Helper()
	s := newCore(DefaultName)
	s.setNode(testNode("a", "8", "8Gi"), start)
	s.setNode(testNode("b", "8", "8Gi"), start)
	s.setDeviceClass("gpu", &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}}, start)
	device := resourcev1.Device{Name: "x"}
	for _, e := range edit {
		e(&device)
	}
	s.cluster.devices.SetSlice("s", &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "d", Pool: resourcev1.ResourcePool{Name: "b", Generation: 1, ResourceSliceCount: 1}, NodeName: new("b"), Devices: []resourcev1.Device{device}}})
	return s
}

func deviceClaim(name string) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "claim"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{
		Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}}}}}}
}

func claiming(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "c", ResourceClaimName: &name}}
	}
}

func TestAPodGoesWhereItsDevicesAre(t *testing.T) {
	s := withDevices(t)
	pod, other := testPod("p", "1", "", claiming("c")), testPod("q", "1", "", claiming("e"))
	s.setPod(pod, start)
	if _, ok := s.next(start); ok {
		t.Error("a pod is tried whose claim isn't there")
	}
	claim := deviceClaim("c")
	claim.Namespace = pod.Namespace
	s.setClaim(claimKey(pod.Namespace, "c"), claim, start)
	d := mustDecide(t, s, start)
	if d.node != "b" || d.claims == nil || len(d.claims.steps) != 1 || d.claims.steps[0].allocation.Devices.Results[0].Device != "x" {
		t.Fatalf("got %+v", d)
	}
	s.setPod(other, start)
	second := deviceClaim("e")
	second.Namespace = other.Namespace
	s.setClaim(claimKey(other.Namespace, "e"), second, start)
	const want = "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	if d := mustDecide(t, s, start); d.message != want {
		t.Errorf("for a device that is given away: %q", d.message)
	}
	s.unbind(d.pod, start)
	later := start.Add(time.Minute)
	if d := mustDecide(t, s, later); d.node != "b" {
		t.Errorf("when the first decision was taken back: got %+v", d)
	}
}

func TestAPodWaitsForDevicesThatAreToBecomeReady(t *testing.T) {
	s := withDevices(t, func(d *resourcev1.Device) {
		d.BindingConditions, d.BindingFailureConditions = []string{"ready"}, []string{"failed"}
	})
	pod := testPod("p", "1", "", claiming("c"))
	claim := deviceClaim("c")
	claim.Namespace = pod.Namespace
	key := claimKey(pod.Namespace, "c")
	s.setClaim(key, claim, start)
	s.setPod(pod, start)
	d := mustDecide(t, s, start)
	if d.node != "b" || !d.claims.waits || len(d.claims.steps) != 1 {
		t.Fatalf("got %+v", d)
	}
	written := claim.DeepCopy()
	written.Status.Allocation = d.claims.steps[0].allocation
	written.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: pod.Name, UID: pod.UID}}
	s.setClaim(key, written, start)
	if d, ok := s.next(start); ok {
		t.Errorf("before the device is ready: %+v", d)
	}
	told := func(condition string) *resourcev1.ResourceClaim {
		c := written.DeepCopy()
		c.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "d", Pool: "b", Device: "x", Conditions: []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}}}}
		return c
	}
	t.Run("until one has failed and is given back", func(t *testing.T) {
		s.setClaim(key, told("failed"), start)
		d := mustDecide(t, s, start.Add(time.Minute))
		if d.node != "" || d.release.deallocate == nil || d.release.message != deallocated {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("until they are ready", func(t *testing.T) {
		s.setClaim(key, told("ready"), start.Add(2*time.Minute))
		if d := mustDecide(t, s, start.Add(3*time.Minute)); d.node != "b" || d.claims != nil {
			t.Errorf("got %+v", d)
		}
	})
}

func TestAnExtendedResourceCanStandForDevices(t *testing.T) {
	s := withDevices(t)
	pod := testPod("p", "1", "", func(p *corev1.Pod) {
		name := corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix + "gpu")
		p.Spec.Containers[0].Resources.Requests[name] = p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU]
	})
	s.setPod(pod, start)
	d := mustDecide(t, s, start)
	if d.node != "b" || d.claims == nil || d.claims.extended == nil || len(d.claims.extended.mappings) != 1 || d.claims.extended.mappings[0].RequestName != "container-0-request-1" {
		t.Errorf("got %+v", d)
	}
}
