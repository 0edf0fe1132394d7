package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// oracle says why a node won't do for a pod as far as pods on other nodes are concerned, from the objects alone; "" if it will.
func oracle(s *core, pod *corev1.Pod, slot int) string {
	var placed []*podInfo
	for _, n := range s.cluster.nodes {
		if n != nil {
			for _, p := range n.pods {
				placed = append(placed, p)
			}
		}
	}
	node := s.cluster.nodes[slot].api
	if why := spreadOracle(s, pod, node, placed); why != "" {
		return why
	}
	return affinityOracle(s, pod, node, placed)
}

func spreadOracle(s *core, pod *corev1.Pod, node *corev1.Node, placed []*podInfo) string {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		value, ok := node.Labels[c.TopologyKey]
		if !ok {
			return outOfTopology.reasons[0]
		}
		selector, _ := metav1.LabelSelectorAsSelector(c.LabelSelector)
		counts := map[string]int{}
		eligible := map[string]bool{}
		for _, n := range s.cluster.nodes {
			if n == nil {
				continue
			}
			all := true
			for _, other := range pod.Spec.TopologySpreadConstraints {
				if _, has := n.api.Labels[other.TopologyKey]; !has && other.WhenUnsatisfiable == corev1.DoNotSchedule {
					all = false
				}
			}
			if c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor && slices.ContainsFunc(n.api.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoSchedule }) {
				all = false
			}
			if all {
				eligible[n.api.Name] = true
				counts[n.api.Labels[c.TopologyKey]] += 0
			}
		}
		for _, p := range placed {
			if eligible[p.node] && p.pod.Namespace == pod.Namespace && selector.Matches(labels.Set(p.pod.Labels)) {
				counts[s.cluster.byName[p.node].api.Labels[c.TopologyKey]]++
			}
		}
		least := math.MaxInt
		for _, n := range counts {
			least = min(least, n)
		}
		if len(counts) == 0 || c.MinDomains != nil && len(counts) < int(*c.MinDomains) {
			least = 0
		}
		self := 0
		if selector.Matches(labels.Set(pod.Labels)) {
			self = 1
		}
		if counts[value]+self-least > int(c.MaxSkew) {
			return tooSkewed.reasons[0]
		}
	}
	return ""
}

func affinityOracle(s *core, pod *corev1.Pod, node *corev1.Node, placed []*podInfo) string {
	speaks := func(of *corev1.Pod, t corev1.PodAffinityTerm, about *corev1.Pod) bool {
		selector, _ := metav1.LabelSelectorAsSelector(t.LabelSelector)
		namespaces := t.Namespaces
		if len(namespaces) == 0 && t.NamespaceSelector == nil {
			namespaces = []string{of.Namespace}
		}
		byLabels, _ := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		return (slices.Contains(namespaces, about.Namespace) || byLabels.Matches(s.cluster.namespaces[about.Namespace])) && selector.Matches(labels.Set(about.Labels))
	}
	shares := func(p *podInfo, key string) bool {
		value, ok := node.Labels[key]
		other, has := s.cluster.byName[p.node].api.Labels[key]
		return ok && has && value == other
	}
	required := func(p *corev1.Pod) (near, apart []corev1.PodAffinityTerm) {
		if a := p.Spec.Affinity; a != nil {
			if a.PodAffinity != nil {
				near = a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
			}
			if a.PodAntiAffinity != nil {
				apart = a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
			}
		}
		return near, apart
	}
	near, apart := required(pod)
	matchesAll := func(p *corev1.Pod) bool {
		return len(near) > 0 && !slices.ContainsFunc(near, func(t corev1.PodAffinityTerm) bool { return !speaks(pod, t, p) })
	}
	satisfied, anywhere := true, false
	for _, t := range near {
		if _, ok := node.Labels[t.TopologyKey]; !ok {
			return noAffinity.reasons[0]
		}
		here := false
		for _, p := range placed {
			if !matchesAll(p.pod) {
				continue
			}
			if _, has := s.cluster.byName[p.node].api.Labels[t.TopologyKey]; has {
				anywhere = true
			}
			here = here || shares(p, t.TopologyKey)
		}
		satisfied = satisfied && here
	}
	if !satisfied && (anywhere || !matchesAll(pod)) {
		return noAffinity.reasons[0]
	}
	for _, t := range apart {
		if slices.ContainsFunc(placed, func(p *podInfo) bool { return speaks(pod, t, p.pod) && shares(p, t.TopologyKey) }) {
			return antiAffinity.reasons[0]
		}
	}
	for _, p := range placed {
		_, theirs := required(p.pod)
		for _, t := range theirs {
			if speaks(p.pod, t, pod) && shares(p, t.TopologyKey) {
				return othersDontWantIt.reasons[0]
			}
		}
	}
	return ""
}

// randomRelations gives a pod labels, a namespace and rules about other pods.
func randomRelations(r *rand.Rand) func(*corev1.Pod) {
	key := func() string { return []string{corev1.LabelHostname, corev1.LabelTopologyZone}[r.IntN(2)] }
	app := func() *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(r.IntN(3))}}
	}
	term := func() corev1.PodAffinityTerm {
		t := corev1.PodAffinityTerm{TopologyKey: key(), LabelSelector: app()}
		switch r.IntN(4) {
		case 0:
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
		case 1:
			t.NamespaceSelector = &metav1.LabelSelector{}
		}
		return t
	}
	return func(p *corev1.Pod) {
		p.Namespace = fmt.Sprint("ns", r.IntN(2))
		p.Labels = map[string]string{"app": fmt.Sprint(r.IntN(3))}
		honor := corev1.NodeInclusionPolicyHonor
		for range r.IntN(3) {
			c := corev1.TopologySpreadConstraint{MaxSkew: int32(1 + r.IntN(2)), TopologyKey: key(), WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app()}
			if r.IntN(2) == 0 {
				c.WhenUnsatisfiable = corev1.ScheduleAnyway
			} else if r.IntN(3) == 0 {
				two := int32(3)
				c.MinDomains = &two
			}
			if r.IntN(2) == 0 {
				c.NodeTaintsPolicy = &honor
			}
			p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
		}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}
		switch r.IntN(6) {
		case 0:
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term()}
		case 1:
			p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term()}
		case 2:
			p.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: term()}}
		case 3:
			p.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: term()}}
		case 4:
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term(), term()}
		}
	}
}

func randomNode(r *rand.Rand) *corev1.Node {
	return testNode(fmt.Sprint("n", r.IntN(14)), "64", "256Gi", func(n *corev1.Node) {
		if r.IntN(8) > 0 {
			n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("z", r.IntN(4))
		}
		if r.IntN(10) == 0 {
			n.Labels[corev1.LabelHostname] = "shared"
		}
		if r.IntN(6) == 0 {
			tainted("k", corev1.TaintEffectNoSchedule)(n)
		}
	})
}

// TestCountsOfOtherPodsStayTrue drives a core with random changes and compares the kept verdicts with an oracle that counts anew, and
// the kept scores with those of a class that was made at this moment.
func TestCountsOfOtherPodsStayTrue(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 9))
		s := newCore(DefaultName)
		for step := range 1200 {
			now := start.Add(time.Duration(step) * time.Minute)
			switch r.IntN(9) {
			case 0:
				s.setNode(randomNode(r), now)
			case 1:
				s.removeNode(fmt.Sprint("n", r.IntN(14)), now)
			case 2, 3:
				s.removePod(types.UID(fmt.Sprint("p", r.IntN(step+1))), now)
			case 4:
				name := fmt.Sprint("ns", r.IntN(2))
				s.setNamespace(name, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": []string{"x", "y"}[r.IntN(2)]}}}, now)
			default:
				s.setPod(testPod(fmt.Sprint("p", step), "100m", "", randomRelations(r), priority(int32(r.IntN(2)))), now)
			}
			d, ok := s.next(now)
			if !ok {
				continue
			}
			if d.node != "" {
				checkPlacement(t, s, d, step)
			}
			checkClass(t, s, d.pod, step)
		}
	}
}

func checkPlacement(t *testing.T, s *core, d decision, step int) {
	t.Helper()
	s.cluster.removePod(d.pod.pod.UID)
	if why := oracle(s, d.pod.pod, s.cluster.byName[d.node].slot); why != "" {
		t.Fatalf("step %d: %s was put on %s: %s", step, d.pod.pod.Name, d.node, why)
	}
	s.cluster.addPod(d.pod)
}

func checkClass(t *testing.T, s *core, p *podInfo, step int) {
	t.Helper()
	kept := s.classOf(p)
	kept.refresh(s.cluster)
	fresh := newClass(s.plugins, p, s.cluster)
	defer fresh.release()
	fresh.refresh(s.cluster)
	for slot, n := range s.cluster.nodes {
		if n == nil {
			continue
		}
		got := ""
		if no := kept.refuseAcross(slot); no != nil {
			got = no.reasons[0]
		}
		if want := oracle(s, p.pod, slot); got != want {
			t.Fatalf("step %d: %s on %s: got %q, want %q", step, p.pod.Name, n.api.Name, got, want)
		}
		if kept.refusals[slot] == nil && kept.rank.cell[slot].key != fresh.rank.cell[slot].key {
			t.Fatalf("step %d: %s on %s: kept in cell %q, which is %q", step, p.pod.Name, n.api.Name, kept.rank.cell[slot].key, fresh.rank.cell[slot].key)
		}
		for i, rule := range kept.across {
			if rule.score != nil && rule.begin == nil && rule.score(slot) != fresh.across[i].score(slot) {
				t.Fatalf("step %d: %s on %s: kept score %d, fresh %d", step, p.pod.Name, n.api.Name, rule.score(slot), fresh.across[i].score(slot))
			}
		}
	}
}
