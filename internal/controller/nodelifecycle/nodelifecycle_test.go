package nodelifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func node(name string, status corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}}}
	for _, t := range taints {
		key, effect, _ := strings.Cut(t, ":")
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect)})
	}
	return n
}

func show(list []corev1.Taint) string {
	var out []string
	for _, t := range list {
		out = append(out, fmt.Sprintf("%s:%s", strings.TrimPrefix(t.Key, "node.kubernetes.io/"), t.Effect))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestTaintsFollowTheConditions(t *testing.T) {
	cordoned := node("n", corev1.ConditionTrue)
	cordoned.Spec.Unschedulable = true
	pressed := node("n", corev1.ConditionTrue)
	pressed.Status.Conditions = append(pressed.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue})
	for name, test := range map[string]struct {
		node *corev1.Node
		exec execution
		want string
	}{
		"a ready node has none":                        {node("n", corev1.ConditionTrue, "node.kubernetes.io/unreachable:NoExecute", "node.kubernetes.io/not-ready:NoSchedule"), clear, ""},
		"one that isn't ready takes no pods":           {node("n", corev1.ConditionFalse), keep, "not-ready:NoSchedule"},
		"one that isn't ready evicts if it may":        {node("n", corev1.ConditionFalse), evict, "not-ready:NoExecute not-ready:NoSchedule"},
		"one that fell silent is unreachable":          {node("n", corev1.ConditionUnknown, "node.kubernetes.io/not-ready:NoExecute"), evict, "unreachable:NoExecute unreachable:NoSchedule"},
		"a cordoned one is unschedulable":              {cordoned, clear, "unschedulable:NoSchedule"},
		"one under pressure says so":                   {pressed, clear, "memory-pressure:NoSchedule"},
		"others' taints stay":                          {node("n", corev1.ConditionTrue, "example.com/gpu:NoSchedule"), clear, "example.com/gpu:NoSchedule"},
		"what is there already stays while it may not": {node("n", corev1.ConditionUnknown, "node.kubernetes.io/unreachable:NoExecute"), keep, "unreachable:NoExecute unreachable:NoSchedule"},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := taints(test.node, test.exec, time.Now())
			if show(got) != test.want || changed != (show(got) != show(test.node.Spec.Taints)) {
				t.Errorf("got %s (changed: %v), want %s", show(got), changed, test.want)
			}
		})
	}
}

func TestHowFastAZoneMayBeEvicted(t *testing.T) {
	for name, test := range map[string]struct {
		ready, notReady int
		allLost         bool
		want            float64
	}{
		"one of two nodes is lost":                       {1, 1, false, 0.1},
		"most of a small zone is lost":                   {2, 8, false, 0},
		"most of a large zone is lost":                   {20, 80, false, 0.01},
		"a whole zone is lost while another lives":       {0, 5, false, 0.1},
		"everything is lost":                             {0, 5, true, 0},
		"more than half, but two nodes only":             {1, 2, false, 0.1},
		"less than the fraction of a small zone is lost": {5, 5, false, 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := evictionRate(zoneHealth(test.ready, test.notReady), test.ready+test.notReady, test.allLost); float64(got) != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// beat renews a node's lease every ten seconds until ctx ends.
func beat(ctx context.Context, t *testing.T, c client.Client, name string) {
	for controller.Sleep(ctx, 10*time.Second) == nil {
		l, err := client.Leases.Get(ctx, c, corev1.NamespaceNodeLease, name)
		if err != nil {
			t.Error(err)
			return
		}
		l = l.DeepCopy()
		l.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
		if _, err := client.Leases.Update(ctx, c, l); err != nil {
			t.Error(err)
		}
	}
}

func TestANodeThatFallsSilentIsLostAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease := func(name string) *coordinationv1.Lease {
			return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
				Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: time.Now()}}}
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "dies"},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		c := clienttest.New(node("lives", corev1.ConditionTrue), node("dies", corev1.ConditionTrue), lease("lives"), lease("dies"), pod)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "nodes", New: New}})
		}()
		go beat(ctx, t, c, "lives")
		look := func(name string) string {
			n, err := client.Nodes.Get(ctx, c, "", name)
			if err != nil {
				t.Fatal(err)
			}
			return string(ready(n)) + " " + show(n.Spec.Taints)
		}
		time.Sleep(49 * time.Second)
		if got := look("dies"); got != "True " {
			t.Errorf("after 49 s: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := look("dies"); got != "Unknown unreachable:NoExecute unreachable:NoSchedule" {
			t.Errorf("after 51 s: %s", got)
		}
		if got := look("lives"); got != "True " {
			t.Errorf("the other one: %s", got)
		}
		p, _ := client.Pods.Get(ctx, c, "ns", "p")
		if p.Status.Conditions[0].Status != corev1.ConditionFalse {
			t.Error("its pod is still ready")
		}
		n, _ := client.Nodes.Get(ctx, c, "", "dies")
		n = n.DeepCopy()
		n.Status.Conditions[0].Status, n.Status.Conditions[0].LastHeartbeatTime = corev1.ConditionTrue, metav1.Now()
		if _, err := client.Nodes.UpdateStatus(ctx, c, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := look("dies"); got != "True " {
			t.Errorf("after it came back: %s", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNothingIsEvictedWhenAllIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New(node("only", corev1.ConditionTrue))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "nodes", New: New}})
		}()
		time.Sleep(5 * time.Minute)
		n, _ := client.Nodes.Get(ctx, c, "", "only")
		if got := show(n.Spec.Taints); got != "unreachable:NoSchedule" {
			t.Errorf("got %s", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
