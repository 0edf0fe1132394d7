package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// placement is a pod that's only scheduled, onto nodes that are nothing but objects: "a", "b" with two pods that are labelled app=anchor, and
// "c" with the taint k=v:NoSchedule. It shows the effect of the fields by its node; on "" it can't be scheduled.
type placement struct{ paths, spec, node string }

// selectors are terms that each would find the anchors but for one field. Those who ask have the label v=2, the anchors v=1.
var selectors = []struct{ paths, term string }{
	{"labelSelector.matchLabels{}", "labelSelector: {matchLabels: {app: nobody}}, topologyKey: kubernetes.io/hostname"},
	{"labelSelector.matchExpressions[].key labelSelector.matchExpressions[].values[]", "labelSelector: {matchExpressions: [{key: app, operator: In, values: [nobody]}]}, topologyKey: kubernetes.io/hostname"},
	{"labelSelector.matchExpressions[].operator", "labelSelector: {matchExpressions: [{key: app, operator: DoesNotExist}], matchLabels: {app: anchor}}, topologyKey: kubernetes.io/hostname"},
	{"namespaces[]", "labelSelector: {matchLabels: {app: anchor}}, namespaces: [default], topologyKey: kubernetes.io/hostname"},
	{"namespaceSelector.matchLabels{}", "labelSelector: {matchLabels: {app: anchor}}, namespaceSelector: {matchLabels: {is: none}}, topologyKey: kubernetes.io/hostname"},
	{below("namespaceSelector.matchExpressions[].", "key operator values[]"), "labelSelector: {matchLabels: {app: anchor}}, namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [$NS]}]}, topologyKey: kubernetes.io/hostname"},
	{"matchLabelKeys[]", "labelSelector: {matchLabels: {app: anchor}}, matchLabelKeys: [v], topologyKey: kubernetes.io/hostname"},
	{"mismatchLabelKeys[]", "labelSelector: {matchLabels: {app: anchor}}, mismatchLabelKeys: [w], topologyKey: kubernetes.io/hostname"},
	{"topologyKey", "labelSelector: {matchLabels: {app: anchor}}, topologyKey: no-such-label"},
}

const (
	anchors = "labelSelector: {matchLabels: {app: anchor}}, topologyKey: kubernetes.io/hostname"
	others  = "labelSelector: {matchLabels: {app: other}}, topologyKey: kubernetes.io/hostname"
	onB     = "nodeSelector: {name: b}, "
	onC     = "nodeSelector: {name: c}, "
)

func placements() []placement {
	const during = "DuringSchedulingIgnoredDuringExecution"
	nodes := "affinity.nodeAffinity."
	list := []placement{
		{below(nodes+"required"+during+".nodeSelectorTerms[].matchExpressions[].", "key operator values[]"), "affinity: {nodeAffinity: {required" + during + ": {nodeSelectorTerms: [{matchExpressions: [{key: name, operator: In, values: [b]}]}]}}}", "b"},
		{below(nodes+"required"+during+".nodeSelectorTerms[].matchFields[].", "key operator values[]"), "affinity: {nodeAffinity: {required" + during + ": {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [walk-b]}]}]}}}", "b"},
		{below(nodes+"preferred"+during+"[].", "weight preference.matchExpressions[].key preference.matchExpressions[].operator preference.matchExpressions[].values[]"),
			onAB("nodeAffinity: {preferred" + during + ": [{weight: 100, preference: {matchExpressions: [{key: name, operator: In, values: [a]}]}}, {weight: 1, preference: {matchExpressions: [{key: name, operator: In, values: [b]}]}}]}"), "a"},
		{below(nodes+"preferred"+during+"[].preference.matchFields[].", "key operator values[]"), onAB("nodeAffinity: {preferred" + during + ": [{weight: 100, preference: {matchFields: [{key: metadata.name, operator: In, values: [walk-b]}]}}]}"), "b"},
		{"nodeSelector{}", onB, "b"}, {"nodeSelector{}", "nodeSelector: {name: d}", ""},
		{"schedulerName", onB + "schedulerName: somebody-else", ""},
		{"schedulingGates[].name", onB + "schedulingGates: [{name: example.com/gate}]", ""},
		{"resources.requests{}", onB + "resources: {requests: {cpu: 100}}", ""},
		{"runtimeClassName overhead{}", onB + "runtimeClassName: walk-heavy", ""},
		{"", onC, ""},
		{below("tolerations[].", "key value"), onC + "$T {key: k, operator: Equal, value: v, effect: NoSchedule}", "c"},
		{"tolerations[].key", onC + "$T {key: other, operator: Exists, effect: NoSchedule}", ""},
		{"tolerations[].value", onC + "$T {key: k, operator: Equal, value: other, effect: NoSchedule}", ""},
		{"tolerations[].operator", onC + "$T {key: k, operator: Exists}", "c"},
		{"tolerations[].effect", onC + "$T {key: k, operator: Exists, effect: NoExecute}", ""},
	}
	for _, s := range []struct{ paths, with, node string }{
		{"maxSkew", "maxSkew: 1, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Ignore, " + anchors, ""},
		{"maxSkew", "maxSkew: 2, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Ignore, " + anchors, "b"},
		{"whenUnsatisfiable", "maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, nodeAffinityPolicy: Ignore, " + anchors, "b"},
		{"nodeAffinityPolicy", "maxSkew: 1, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Honor, " + anchors, "b"},
		{"minDomains", "maxSkew: 1, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Honor, minDomains: 2, " + anchors, ""},
	} {
		list = append(list, placement{below("topologySpreadConstraints[].", s.paths), onB + "topologySpreadConstraints: [{" + s.with + "}]", s.node})
	}
	for _, s := range selectors {
		if !strings.Contains(s.paths, "amespace") && s.paths != "mismatchLabelKeys[]" && s.paths != "topologyKey" {
			list = append(list, placement{below("topologySpreadConstraints[].", s.paths), onB + "topologySpreadConstraints: [{maxSkew: 1, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Ignore, " + s.term + "}]", "b"})
		}
	}
	return append(list, aboutOthers(during)...)
}

// onAB leaves the choice between a and b to a preference.
func onAB(affinity string) string {
	return "nodeSelector: {either: ''}, affinity: {" + affinity + "}"
}

// aboutOthers are the terms about other pods: the anchors on b draw or repel, unless one field of the term keeps them from being found.
func aboutOthers(during string) []placement {
	var list []placement
	term := func(kind, term, paths string, matches bool) {
		required, preferred := "affinity."+kind+".required"+during+"[].", "affinity."+kind+".preferred"+during+"[]."
		there := map[bool]string{true: "b", false: ""}
		if kind == "podAffinity" {
			list = append(list, placement{below(required, paths), onB + "affinity: {podAffinity: {required" + during + ": [{" + term + "}]}}", there[matches]},
				placement{preferred + "weight " + below(preferred+"podAffinityTerm.", paths), onAB("podAffinity: {preferred" + during + ": [{weight: 100, podAffinityTerm: {" + term + "}}, {weight: 10, podAffinityTerm: {" + others + "}}]}"), map[bool]string{true: "b", false: "a"}[matches]})
			return
		}
		list = append(list, placement{below(required, paths), onB + "affinity: {podAntiAffinity: {required" + during + ": [{" + term + "}]}}", there[!matches]},
			placement{preferred + "weight " + below(preferred+"podAffinityTerm.", paths), onAB("podAntiAffinity: {preferred" + during + ": [{weight: 100, podAffinityTerm: {" + term + "}}]}, podAffinity: {preferred" + during + ": [{weight: 10, podAffinityTerm: {" + anchors + "}}]}"), map[bool]string{true: "a", false: "b"}[matches]})
	}
	for _, kind := range []string{"podAffinity", "podAntiAffinity"} {
		term(kind, anchors, "", true)
		for _, s := range selectors {
			term(kind, s.term, s.paths, false)
		}
	}
	return list
}

// schedule makes the nodes and the pods, and looks where they go.
func (w *walk) schedule() {
	nodes, c := clientset(w.T).CoreV1().Nodes(), clientset(w.T)
	apply(w.T, w.ns, "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: walk-heavy}, handler: runc, overhead: {podFixed: {memory: 1Ti}}}")
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		now := int64(0)
		if err := c.CoreV1().Pods(w.ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: "placed"}); err != nil {
			w.Error(err)
		}
		for _, node := range []string{"walk-a", "walk-b", "walk-c"} {
			if err := nodes.Delete(ctx, node, metav1.DeleteOptions{}); err != nil {
				w.Error(err)
			}
		}
		if err := c.NodeV1().RuntimeClasses().Delete(ctx, "walk-heavy", metav1.DeleteOptions{}); err != nil {
			w.Error(err)
		}
	})
	for _, node := range []string{"a", "b", "c"} {
		manifest := "{apiVersion: v1, kind: Node, metadata: {name: walk-" + node + ", labels: {$EITHER name: " + node + ", kubernetes.io/hostname: walk-" + node + "}}, spec: {taints: [$TAINT]}, " +
			"status: {capacity: {cpu: 8, memory: 8Gi, pods: 200}, allocatable: {cpu: 8, memory: 8Gi, pods: 200}, conditions: [{type: Ready, status: 'True', reason: Walk, lastHeartbeatTime: '" + time.Now().UTC().Format(time.RFC3339) + "'}]}}"
		taint := "{key: walk, effect: NoSchedule}" // other tests' pods stay away
		either := "either: '',"
		if node == "c" {
			either = ""
			taint += ", {key: k, value: v, effect: NoSchedule}"
		}
		var n corev1.Node
		w.decode(strings.NewReplacer("$TAINT", taint, "$EITHER", either).Replace(manifest), &n)
		if _, err := nodes.Create(w.Context(), &n, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
	}
	w.place("anchor-1", "app: anchor, v: '1', w: '2'", placement{spec: onB})
	w.place("anchor-2", "app: anchor, v: '1', w: '2'", placement{spec: onB})
	w.place("other", "app: other", placement{spec: "nodeSelector: {name: a}"})
	w.placed(map[string]placement{"anchor-1": {node: "b"}, "anchor-2": {node: "b"}, "other": {node: "a"}})
	all := map[string]placement{}
	for i, p := range placements() {
		name := fmt.Sprintf("placed-%d", i)
		all[name] = p
		w.place(name, "v: '2', w: '2'", p)
	}
	w.placed(all)
}

func (w *walk) decode(manifest string, into any) {
	w.Helper()
	if err := yaml.UnmarshalStrict([]byte(manifest), into); err != nil {
		w.Fatalf("%v in %s", err, manifest)
	}
}

func (w *walk) place(name, labels string, p placement) {
	w.Helper()
	const tolerations = "tolerations: [{key: walk, operator: Exists}, {key: node.kubernetes.io/not-ready, operator: Exists}"
	spec := strings.TrimSuffix(p.spec, ", ")
	if before, after, ok := strings.Cut(spec, "$T "); ok {
		spec = before + tolerations + ", " + after + "]"
	} else {
		spec = strings.TrimPrefix(spec+", "+tolerations+"]", ", ")
	}
	spec = strings.ReplaceAll(spec, "$NS", w.ns)
	var pod corev1.Pod
	w.decode("{metadata: {name: "+name+", labels: {placed: '', "+labels+"}}, spec: {"+spec+", containers: [{name: c, image: none}]}}", &pod)
	if _, err := clientset(w.T).CoreV1().Pods(w.ns).Create(w.Context(), &pod, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// placed waits until every pod is where it belongs, or was looked at in vain.
func (w *walk) placed(all map[string]placement) {
	w.Helper()
	pods := awaitPods(w.T, w.ns, "placed", 30*time.Second, func(pods map[string]corev1.Pod) error {
		for name := range all {
			if pod := pods[name]; pod.Spec.NodeName == "" && len(pod.Status.Conditions) == 0 && pod.Spec.SchedulerName == corev1.DefaultSchedulerName {
				return fmt.Errorf("nobody has looked at %s", name)
			}
		}
		return nil
	})
	for name, p := range all {
		pod := pods[name]
		node := strings.TrimPrefix(pod.Spec.NodeName, "walk-")
		reason := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
		message := ""
		if reason >= 0 {
			message = pod.Status.Conditions[reason].Message
		}
		w.holds(p.paths, node == p.node, "%s is on %q, not on %q: %s %s", name, node, p.node, p.spec, message)
	}
}
