package daemonset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func daemon(surge, unavailable string) *appsv1.DaemonSet {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "agent", UID: "agent"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "agent"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}}},
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &s, MaxUnavailable: &u}},
	}}
}

func node(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}, Spec: corev1.NodeSpec{Taints: taints}}
}

// world plays the API and the kubelets.
type world struct {
	state
	made int
	log  []string
}

func newWorld(ds *appsv1.DaemonSet, nodes ...*corev1.Node) *world {
	w := &world{state: state{ds: ds, nodes: nodes, hash: "a", now: time.Now()}}
	w.backoff = func(string) time.Duration { return 0 }
	return w
}

func (w *world) step() bool {
	p := makePlan(w.state)
	for _, n := range p.create {
		pod := newPod(w.ds, n, w.hash)
		w.made++
		pod.Name, pod.CreationTimestamp = fmt.Sprintf("%s-%d", n, w.made), metav1.NewTime(w.now.Add(time.Duration(w.made)*time.Second))
		w.pods = append(w.pods, pod)
		w.log = append(w.log, "+"+n+w.hash)
	}
	for _, gone := range p.delete {
		w.pods = slices.DeleteFunc(w.pods, func(o *corev1.Pod) bool { return o.Name == gone.Name })
		w.log = append(w.log, "-"+nodeOf(gone)+gone.Labels["controller-revision-hash"])
	}
	return len(p.create)+len(p.delete) > 0
}

func (w *world) ready() {
	for _, pod := range w.pods {
		pod.Spec.NodeName = nodeOf(pod)
		if pod.Status.Phase == "" {
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		}
	}
}

func (w *world) settle() string {
	w.log = nil
	for range 50 {
		if !w.step() {
			return strings.Join(w.log, " ")
		}
		w.ready()
	}
	return "does not come to rest: " + strings.Join(w.log, " ")
}

func TestEveryNodeThatItIsForHasOnePod(t *testing.T) {
	refuses := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
	troubled := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	w := newWorld(daemon("0", "1"), node("n1"), node("n2", refuses), node("n3", troubled))
	if got := w.settle(); got != "+n1a +n3a" {
		t.Errorf("got %s", got)
	}
	s := makeStatus(w.state, nil)
	if s.DesiredNumberScheduled != 2 || s.NumberReady != 2 || s.NumberAvailable != 2 || s.UpdatedNumberScheduled != 2 || s.NumberUnavailable != 0 {
		t.Errorf("status is %+v", s)
	}
	w.nodes[0] = node("n1", corev1.Taint{Key: "drain", Effect: corev1.TaintEffectNoExecute})
	if got := w.settle(); got != "-n1a" {
		t.Errorf("a node that turned its back: %s", got)
	}
	w.nodes = append(w.nodes, node("n4"))
	if got := w.settle(); got != "+n4a" {
		t.Errorf("a new node: %s", got)
	}
	w.nodes[2] = node("n3", refuses)
	if got := w.settle(); got != "" {
		t.Errorf("a pod goes for a taint that only keeps new ones out: %s", got)
	}
	if s := makeStatus(w.state, nil); s.NumberMisscheduled != 1 {
		t.Errorf("status is %+v", s)
	}
}

func TestANodeSelectorChoosesNodes(t *testing.T) {
	ds := daemon("0", "1")
	ds.Spec.Template.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "n2"}
	w := newWorld(ds, node("n1"), node("n2"))
	if got := w.settle(); got != "+n2a" {
		t.Errorf("got %s", got)
	}
}

func TestAPodThatFailedIsReplacedAfterItsBackoff(t *testing.T) {
	w := newWorld(daemon("0", "1"), node("n1"))
	w.settle()
	w.pods[0].Status.Phase = corev1.PodFailed
	w.backoff = func(string) time.Duration { return time.Minute }
	if p := makePlan(w.state); len(p.delete) != 0 || p.again != time.Minute {
		t.Errorf("got %+v", p)
	}
	w.backoff = func(string) time.Duration { return 0 }
	if got := w.settle(); got != "-n1a +n1a" {
		t.Errorf("got %s", got)
	}
}

func TestAnUpdateReplacesAsManyAsMayBeUnavailable(t *testing.T) {
	w := newWorld(daemon("0", "2"), node("n1"), node("n2"), node("n3"))
	w.settle()
	w.hash = "b"
	if got := w.settle(); got != "-n1a -n2a +n1b +n2b -n3a +n3b" {
		t.Errorf("got %s", got)
	}
}

func TestAnUpdateThatDoesNotBecomeReadyStops(t *testing.T) {
	w := newWorld(daemon("0", "1"), node("n1"), node("n2"))
	w.settle()
	w.hash, w.log = "b", nil
	for range 10 {
		w.step()
	}
	if got := strings.Join(w.log, " "); got != "-n1a +n1b" {
		t.Errorf("got %s", got)
	}
}

func TestASurgeMakesTheNewPodFirst(t *testing.T) {
	w := newWorld(daemon("1", "0"), node("n1"), node("n2"))
	w.settle()
	w.hash = "b"
	if got := w.settle(); got != "+n1b +n2b -n1a -n2a" {
		t.Errorf("got %s", got)
	}
}

func TestOnDeleteUpdatesWhatPeopleDelete(t *testing.T) {
	ds := daemon("0", "1")
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	w := newWorld(ds, node("n1"), node("n2"))
	w.settle()
	w.hash = "b"
	if got := w.settle(); got != "" {
		t.Errorf("got %s", got)
	}
	w.pods = w.pods[1:]
	if got := w.settle(); got != "+n1b" {
		t.Errorf("got %s", got)
	}
}

func TestAPodIsPinnedToItsNodeAndToleratesTrouble(t *testing.T) {
	ds := daemon("0", "1")
	ds.Spec.Template.Spec.HostNetwork = true
	p := newPod(ds, "n1", "h")
	if nodeOf(p) != "n1" || len(p.Spec.Tolerations) != 7 || p.Labels["controller-revision-hash"] != "h" || p.GenerateName != "agent-" {
		t.Errorf("got %+v", p)
	}
	if len(ds.Spec.Template.Spec.Tolerations) != 0 || ds.Spec.Template.Spec.Affinity != nil {
		t.Error("the template was changed")
	}
}
