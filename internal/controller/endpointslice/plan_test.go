package endpointslice

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func pod(i int, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%03d", i), UID: types.UID(fmt.Sprint("u", i))},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.1.%d.%d", i/250, i%250), PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", i/250, i%250)}},
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func pods(n int) []*corev1.Pod {
	out := make([]*corev1.Pod, n)
	for i := range out {
		out[i] = pod(i)
	}
	return out
}

func zones(node string) (string, bool) { return "z-" + node, node != "unknown" }

// world applies plans.
type world struct {
	state
	made int
}

func newWorld(svc *corev1.Service, list []*corev1.Pod) *world {
	return &world{state: state{service: svc, pods: list, zone: zones}}
}

func (w *world) step() plan {
	p := makePlan(w.state)
	for _, s := range p.create {
		w.made++
		s = s.DeepCopy()
		s.Name = fmt.Sprintf("%s%d", s.GenerateName, w.made)
		w.slices = append(w.slices, s)
	}
	for _, s := range p.update {
		w.slices[slices.IndexFunc(w.slices, func(o *discoveryv1.EndpointSlice) bool { return o.Name == s.Name })] = s
	}
	for _, s := range p.delete {
		w.slices = slices.DeleteFunc(w.slices, func(o *discoveryv1.EndpointSlice) bool { return o.Name == s.Name })
	}
	return p
}

func (w *world) sizes() (out []int) {
	for _, s := range w.slices {
		out = append(out, len(s.Endpoints))
	}
	return out
}

func TestASliceTellsWhereAPodIs(t *testing.T) {
	w := newWorld(service(), pods(1))
	w.step()
	s := w.slices[0]
	e := s.Endpoints[0]
	if *s.Ports[0].Port != 8080 || *s.Ports[0].Name != "http" || e.Addresses[0] != "10.1.0.0" || *e.NodeName != "n1" || *e.Zone != "z-n1" ||
		!*e.Conditions.Ready || !*e.Conditions.Serving || *e.Conditions.Terminating || e.TargetRef.Name != "p000" {
		t.Errorf("got %+v with %+v", s.Ports, e)
	}
	if s.Labels["kubernetes.io/service-name"] != "web" || s.Labels["endpointslice.kubernetes.io/managed-by"] != ManagedBy || s.Labels["team"] != "a" || s.OwnerReferences[0].UID != "svc" {
		t.Errorf("got %+v", s.ObjectMeta)
	}
	if p := w.step(); len(p.create)+len(p.update)+len(p.delete) > 0 {
		t.Errorf("a second look changes %+v", p)
	}
}

func TestWhatBecomesOfPods(t *testing.T) {
	no := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	leaving := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for name, test := range map[string]struct {
		pod                         func(*corev1.Pod)
		publish                     bool
		gone                        bool
		ready, serving, terminating bool
	}{
		"a ready pod is ready and serves":                         {pod: func(*corev1.Pod) {}, ready: true, serving: true},
		"an unready pod is there, but not ready":                  {pod: no},
		"an unready pod is ready where the Service says so":       {pod: no, publish: true, ready: true},
		"a pod that is being deleted serves but isn't ready":      {pod: leaving, serving: true, terminating: true},
		"a pod that failed is gone":                               {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, gone: true},
		"a pod without an address is not there yet":               {pod: func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }, gone: true},
		"a pod on a node that nobody knows is left out":           {pod: func(p *corev1.Pod) { p.Spec.NodeName = "unknown" }, gone: true},
		"a pod of the other address family is left out":           {pod: func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "fd00::1"}} }, gone: true},
		"a pod on an unknown node is there if all are to be told": {pod: func(p *corev1.Pod) { p.Spec.NodeName = "unknown" }, publish: true, ready: true, serving: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = test.publish }), []*corev1.Pod{pod(0, test.pod)})
			w.step()
			if test.gone {
				if len(w.slices) != 1 || len(w.slices[0].Endpoints) != 0 {
					t.Errorf("got %v", w.sizes())
				}
				return
			}
			c := w.slices[0].Endpoints[0].Conditions
			if *c.Ready != test.ready || *c.Serving != test.serving || *c.Terminating != test.terminating {
				t.Errorf("ready %v, serving %v, terminating %v", *c.Ready, *c.Serving, *c.Terminating)
			}
		})
	}
}

func TestAServiceWithoutPodsHasOneEmptySlice(t *testing.T) {
	w := newWorld(service(), nil)
	w.step()
	if !slices.Equal(w.sizes(), []int{0}) {
		t.Fatalf("got %v", w.sizes())
	}
	if p := w.step(); len(p.create)+len(p.update)+len(p.delete) > 0 {
		t.Errorf("a second look changes %+v", p)
	}
	w.pods = pods(2)
	if p := w.step(); len(p.update) != 1 || !slices.Equal(w.sizes(), []int{2}) || len(w.slices[0].Ports) != 1 {
		t.Errorf("the empty slice takes the pods: %+v, got %v", p, w.sizes())
	}
	w.pods = nil
	if p := w.step(); len(p.update) != 1 || !slices.Equal(w.sizes(), []int{0}) || len(w.slices[0].Ports) != 0 {
		t.Errorf("the slice becomes the empty one: %+v, got %v", p, w.sizes())
	}
}

func TestAChangeTouchesFewSlices(t *testing.T) {
	w := newWorld(service(), pods(250))
	w.step()
	if got := w.sizes(); !slices.Equal(got, []int{100, 100, 50}) {
		t.Fatalf("got %v", got)
	}
	w.pods = append(w.pods, pod(900))
	if p := w.step(); len(p.create) != 0 || len(p.update) != 1 || len(p.delete) != 0 {
		t.Errorf("one more pod: %d created, %d updated, %d deleted", len(p.create), len(p.update), len(p.delete))
	}
	w.pods = w.pods[1:]
	if p := w.step(); len(p.create) != 0 || len(p.update) != 1 || len(p.delete) != 0 {
		t.Errorf("one pod less: %d created, %d updated, %d deleted", len(p.create), len(p.update), len(p.delete))
	}
}

func TestASlicePerFamilyAndPerPorts(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	})
	both := pod(0, func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) })
	other := pod(1, func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9090 })
	w := newWorld(svc, []*corev1.Pod{both, other})
	w.step()
	var got []string
	for _, s := range w.slices {
		got = append(got, fmt.Sprintf("%s:%d=%d", s.AddressType, *s.Ports[0].Port, len(s.Endpoints)))
	}
	slices.Sort(got)
	if want := []string{"IPv4:8080=1", "IPv4:9090=1", "IPv6:8080=1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	svc.Spec.IPFamilies = svc.Spec.IPFamilies[:1]
	if p := w.step(); len(p.delete) != 1 || p.delete[0].AddressType != discoveryv1.AddressTypeIPv6 {
		t.Errorf("the second family's slice stays: %+v", p)
	}
}

func TestAHeadlessServiceIsMarked(t *testing.T) {
	w := newWorld(service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }),
		[]*corev1.Pod{pod(0, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "p0", "web" })})
	w.step()
	s := w.slices[0]
	if _, ok := s.Labels[corev1.IsHeadlessService]; !ok || len(s.Ports) != 0 || s.Endpoints[0].Hostname == nil || *s.Endpoints[0].Hostname != "p0" {
		t.Errorf("got %+v", s)
	}
}

func TestTrafficDistributionMakesHints(t *testing.T) {
	w := newWorld(service(), pods(1))
	w.step()
	for _, d := range []string{"PreferClose", "PreferSameZone", "PreferSameNode"} {
		w.service.Spec.TrafficDistribution = &d
		w.step()
		h := w.slices[0].Endpoints[0].Hints
		if h == nil || h.ForZones[0].Name != "z-n1" || (d == "PreferSameNode") != (len(h.ForNodes) == 1) {
			t.Errorf("%s: got %+v", d, h)
		}
	}
	w.service.Spec.TrafficDistribution = nil
	w.step()
	if h := w.slices[0].Endpoints[0].Hints; h != nil {
		t.Errorf("the hints stay: %+v", h)
	}
}

// TestRandomHistories checks after each of many random changes that every pod is in exactly one slice, that no slice is
// too full, and that a second look changes nothing.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(service(), nil)
		for range 40 {
			alive := map[int]bool{}
			for range rnd.IntN(400) {
				alive[rnd.IntN(400)] = true
			}
			w.pods = nil
			for i := range alive {
				w.pods = append(w.pods, pod(i, func(p *corev1.Pod) {
					p.Spec.Containers[0].Ports[0].ContainerPort = 8080 + rnd.Int32N(2)
				}))
			}
			w.step()
			seen := map[string]bool{}
			for _, s := range w.slices {
				if len(s.Endpoints) > maxEndpoints {
					t.Fatalf("a slice has %d endpoints", len(s.Endpoints))
				}
				for _, e := range s.Endpoints {
					if seen[e.TargetRef.Name] {
						t.Fatalf("%s is there twice", e.TargetRef.Name)
					}
					seen[e.TargetRef.Name] = true
				}
			}
			if len(seen) != len(w.pods) {
				t.Fatalf("%d endpoints for %d pods", len(seen), len(w.pods))
			}
			if p := w.step(); len(p.create)+len(p.update)+len(p.delete) > 0 {
				t.Fatalf("a second look changes something")
			}
		}
	}
}
