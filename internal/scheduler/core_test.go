package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testNode(name, cpu, memory string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse("110"),
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func testPod(name, cpu, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
	p.Spec.SchedulerName = DefaultName
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "image", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}}}}
	if cpu != "" {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }
func tainted(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}
func port(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: n, HostPort: n}}
	}
}

func mustDecide(t *testing.T, s *core, now time.Time) decision {
	t.Helper()
	d, ok := s.next(now)
	if !ok {
		t.Fatal("there is nothing to decide")
	}
	return d
}

func TestRefusalsAreExplainedAsUpstreamDoes(t *testing.T) {
	selector := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
	cordon := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tests := []struct {
		name  string
		nodes []*corev1.Node
		pod   *corev1.Pod
		want  string
	}{
		{"without_nodes", nil, testPod("p", "1", ""), "no nodes available to schedule pods"},
		{"too_little_of_two_resources", []*corev1.Node{testNode("a", "1", "1Gi"), testNode("b", "1", "8Gi")}, testPod("p", "2", "4Gi"),
			"0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{"taints_cordons_and_selectors", []*corev1.Node{testNode("a", "1", "1Gi", tainted("k", corev1.TaintEffectNoSchedule)), testNode("b", "1", "8Gi", cordon), testNode("c", "4", "8Gi")}, testPod("p", "1", "", selector),
			"0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."},
		{"a_pod_for_one_node_by_its_name", []*corev1.Node{testNode("a", "1", "1Gi"), testNode("b", "8", "8Gi", tainted("k", corev1.TaintEffectNoSchedule))}, testPod("p", "2", "", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}}}
		}), "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{"a_pod_that_never_preempts", []*corev1.Node{testNode("a", "1", "1Gi")}, testPod("p", "2", "", func(p *corev1.Pod) {
			never := corev1.PreemptNever
			p.Spec.PreemptionPolicy = &never
		}), "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newCore(DefaultName)
			for _, n := range test.nodes {
				s.setNode(n, start)
			}
			s.setPod(test.pod, start)
			if d := mustDecide(t, s, start); d.node != "" || d.message != test.want {
				t.Errorf("node %q, message\n  %s\nwant\n  %s", d.node, d.message, test.want)
			}
		})
	}
}

func TestQueue(t *testing.T) {
	t.Run("higher_priority_goes_first_then_age", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "10", "10Gi"), start)
		s.setPod(testPod("old", "1", ""), start)
		s.setPod(testPod("new", "1", ""), start.Add(time.Second))
		s.setPod(testPod("high", "1", "", priority(5)), start.Add(2*time.Second))
		for _, want := range []string{"high", "old", "new"} {
			if d := mustDecide(t, s, start.Add(3*time.Second)); d.pod.pod.Name != want {
				t.Errorf("%s was decided before %s", d.pod.pod.Name, want)
			}
		}
	})
	t.Run("a_refused_pod_waits_for_an_event_that_helps_and_its_backoff", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "1", "1Gi"), start)
		s.setPod(testPod("p", "2", ""), start)
		mustDecide(t, s, start)
		s.setNode(testNode("a", "1", "1Gi", func(n *corev1.Node) { n.Labels["x"] = "y" }), start.Add(5*time.Second))
		if _, ok := s.next(start.Add(6 * time.Second)); ok {
			t.Fatal("a label woke a pod that needs CPU")
		}
		s.setNode(testNode("a", "4", "1Gi"), start.Add(7*time.Second))
		if d := mustDecide(t, s, start.Add(7*time.Second)); d.node != "a" {
			t.Fatalf("not placed: %s", d.message)
		}
	})
	t.Run("plugins_are_to_blame_for_a_pod_until_it_is_tried_again", func(t *testing.T) {
		s := newCore(DefaultName)
		blamed := func(want map[string]int) {
			t.Helper()
			got := maps.Clone(s.queue.blame)
			maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
			if !maps.Equal(got, want) {
				t.Errorf("to blame are %v, not %v", got, want)
			}
		}
		s.setNode(testNode("a", "1", "1Gi"), start)
		s.setNode(testNode("b", "4", "1Gi", func(n *corev1.Node) { n.Spec.Unschedulable = true }), start)
		s.setPod(testPod("p", "2", ""), start)
		s.setPod(testPod("gated", "", "", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }), start)
		mustDecide(t, s, start)
		blamed(map[string]int{"NodeResourcesFit": 1, "NodeUnschedulable": 1, "SchedulingGates": 1})
		s.setPod(testPod("gated", "", ""), start)
		mustDecide(t, s, start)
		s.setNode(testNode("a", "4", "1Gi"), start.Add(7*time.Second))
		mustDecide(t, s, start.Add(7*time.Second))
		blamed(map[string]int{})
	})
	t.Run("gates_hold_a_pod_back_until_they_are_gone", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "1", "1Gi"), start)
		s.setPod(testPod("p", "", "", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }), start)
		if _, ok := s.next(start); ok {
			t.Fatal("a gated pod was decided")
		}
		s.setPod(testPod("p", "", ""), start)
		if d := mustDecide(t, s, start); d.node != "a" {
			t.Fatalf("not placed: %s", d.message)
		}
	})
	t.Run("a_failed_binding_gives_the_room_back", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "1", "1Gi"), start)
		s.setPod(testPod("p", "1", ""), start)
		s.unbind(mustDecide(t, s, start).pod, start)
		s.setPod(testPod("q", "1", ""), start)
		if d := mustDecide(t, s, start); d.pod.pod.Name != "q" || d.node != "a" {
			t.Fatalf("%s: node %q: %s", d.pod.pod.Name, d.node, d.message)
		}
	})
}

func TestHostPortsAreGivenOnce(t *testing.T) {
	s := newCore(DefaultName)
	s.setNode(testNode("a", "4", "4Gi"), start)
	s.setPod(testPod("p", "1", "", port(80)), start)
	mustDecide(t, s, start)
	s.setPod(testPod("q", "1", "", port(80)), start)
	if d := mustDecide(t, s, start); d.node != "" {
		t.Error("two pods publish the same port on one node")
	}
}

func TestPreemption(t *testing.T) {
	placed := func(s *core, name, node string, prio int32, cpu string) {
		s.setPod(testPod(name, cpu, "", priority(prio), func(p *corev1.Pod) { p.Spec.NodeName = node }), start)
	}
	t.Run("evicts_as_few_and_as_unimportant_pods_as_will_do", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "2", "4Gi"), start)
		s.setNode(testNode("b", "2", "4Gi"), start)
		placed(s, "a1", "a", 5, "1")
		placed(s, "a2", "a", 1, "1")
		placed(s, "b1", "b", 3, "2")
		s.setPod(testPod("p", "1", "", priority(10)), start)
		d := mustDecide(t, s, start)
		if d.nominate != "a" || len(d.victims) != 1 || d.victims[0].pod.Name != "a2" {
			t.Fatalf("nominated %q with %d victims: %s", d.nominate, len(d.victims), d.message)
		}
		t.Run("and_keeps_the_room_for_the_preemptor", func(t *testing.T) {
			s.removePod("a2", start)
			s.setPod(testPod("thief", "1", "", priority(0)), start)
			if d := mustDecide(t, s, start.Add(time.Millisecond)); d.node == "a" {
				t.Error("another pod took the room")
			}
			if d := mustDecide(t, s, start.Add(2*time.Second)); d.pod.pod.Name != "p" || d.node != "a" {
				t.Errorf("%s got %q: %s", d.pod.pod.Name, d.node, d.message)
			}
		})
	})
	t.Run("equals_are_not_evicted", func(t *testing.T) {
		s := newCore(DefaultName)
		s.setNode(testNode("a", "1", "4Gi"), start)
		placed(s, "a1", "a", 5, "1")
		s.setPod(testPod("p", "1", "", priority(5)), start)
		d := mustDecide(t, s, start)
		const want = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
		if d.nominate != "" || d.message != want {
			t.Errorf("nominated %q: %s", d.nominate, d.message)
		}
	})
}

// TestClassesKeepTrueVerdicts drives a core with random changes and compares what its classes kept with a fresh look.
func TestClassesKeepTrueVerdicts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := newCore(DefaultName)
	for step := range 3000 {
		now := start.Add(time.Duration(step) * time.Second)
		switch r.IntN(6) {
		case 0:
			taints := func(n *corev1.Node) {}
			if r.IntN(3) == 0 {
				taints = tainted("k", []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}[r.IntN(2)])
			}
			s.setNode(testNode(fmt.Sprint("n", r.IntN(12)), fmt.Sprint(1+r.IntN(8)), "16Gi", taints), now)
		case 1:
			s.removeNode(fmt.Sprint("n", r.IntN(12)), now)
		case 2:
			s.removePod(types.UID(fmt.Sprint("p", r.IntN(step+1))), now)
		default:
			s.setPod(testPod(fmt.Sprint("p", step), fmt.Sprint(r.IntN(3)+1), "1Gi", priority(int32(r.IntN(3)))), now)
		}
		d, ok := s.next(now)
		if !ok {
			continue
		}
		kept := s.classes[d.pod.key(s.cluster)]
		kept.refresh(s.cluster)
		fresh := newClass(s.plugins, d.pod, s.cluster)
		fresh.refresh(s.cluster)
		for slot := range s.cluster.nodes {
			if (kept.refusals[slot] == nil) != (fresh.refusals[slot] == nil) {
				t.Fatalf("step %d: slot %d: kept verdict %v, fresh %v", step, slot, kept.refusals[slot], fresh.refusals[slot])
			}
			if kept.refusals[slot] == nil && kept.rank.score[slot] != fresh.rank.score[slot] {
				t.Fatalf("step %d: slot %d: kept score %d, fresh %d", step, slot, kept.rank.score[slot], fresh.rank.score[slot])
			}
		}
	}
}
