package scheduler

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// podTerm is an affinity term, parsed.
type podTerm struct {
	topologyKey string
	namespaces  []string        // sorted
	ofNamespace labels.Selector // further namespaces, by their labels
	selector    labels.Selector
	kind        termKind
	weight      int64 // of a preferred one; negative for anti-affinity
}

type termKind int

const (
	requiredAffinity termKind = iota
	requiredAntiAffinity
	preferred
)

// requiredWeight is what a required affinity of a pod that is there counts for in the scores of those that match it.
const requiredWeight = 1

// podTerms parses all affinity terms of a pod. The API has refused those that don't parse; one that does not matches nothing.
func podTerms(pod *corev1.Pod) []podTerm {
	if pod.Spec.Affinity == nil {
		return nil
	}
	var out []podTerm
	add := func(term *corev1.PodAffinityTerm, kind termKind, weight int64) {
		out = append(out, newPodTerm(pod, term, kind, weight))
	}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
			add(&a.RequiredDuringSchedulingIgnoredDuringExecution[i], requiredAffinity, requiredWeight)
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(&t.PodAffinityTerm, preferred, int64(t.Weight))
		}
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
			add(&a.RequiredDuringSchedulingIgnoredDuringExecution[i], requiredAntiAffinity, 0)
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(&t.PodAffinityTerm, preferred, -int64(t.Weight))
		}
	}
	return out
}

func newPodTerm(pod *corev1.Pod, term *corev1.PodAffinityTerm, kind termKind, weight int64) podTerm {
	t := podTerm{topologyKey: term.TopologyKey, kind: kind, weight: weight, namespaces: slices.Clone(term.Namespaces)}
	t.selector = parsedSelector(term.LabelSelector)
	t.ofNamespace = parsedSelector(term.NamespaceSelector)
	if len(term.Namespaces) == 0 && term.NamespaceSelector == nil {
		t.namespaces = []string{pod.Namespace}
	}
	slices.Sort(t.namespaces)
	return t
}

// parsedSelector is a selector in the form that matches; nil selects nothing.
func parsedSelector(s *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

func (t *podTerm) String() string {
	ofNamespace := t.ofNamespace.String()
	if t.ofNamespace == labels.Nothing() {
		ofNamespace = "none"
	}
	selector := t.selector.String()
	if t.selector == labels.Nothing() {
		selector = "none"
	}
	return fmt.Sprintf("%d %d %s [%s] (%s) %s", t.kind, t.weight, t.topologyKey, strings.Join(t.namespaces, ","), ofNamespace, selector)
}

// matches tells whether a pod with these labels in a namespace with those is one that the term speaks of.
func (t *podTerm) matches(namespace string, namespaceLabels, podLabels labels.Set) bool {
	return (slices.Contains(t.namespaces, namespace) || t.ofNamespace.Matches(namespaceLabels)) && t.selector.Matches(podLabels)
}

// resolved returns the namespaces that the term speaks of now; nil is all.
func (t *podTerm) resolved(c *cluster) []string {
	if t.ofNamespace.Empty() {
		return nil
	}
	out := slices.Clone(t.namespaces)
	if out == nil {
		out = []string{}
	}
	for name, l := range c.namespaces {
		if t.ofNamespace.Matches(l) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// carriedTerm is a term that pods have, and where those pods are.
type carriedTerm struct {
	podTerm
	id       uint64
	key      string
	carriers *tally
}

// carry returns the shared form of a pod's terms.
func (c *cluster) carry(pod *corev1.Pod) []*carriedTerm {
	var out []*carriedTerm
	for _, t := range podTerms(pod) {
		key := t.String()
		shared, ok := c.carried[key]
		if !ok {
			c.carriedMade++
			shared = &carriedTerm{podTerm: t, id: c.carriedMade, key: key}
			shared.carriers = c.newTally(&tally{}, t.topologyKey)
			c.carried[key] = shared
			c.relations++
			c.byNamespaceLabels = c.byNamespaceLabels || t.ofNamespace != labels.Nothing() && !t.ofNamespace.Empty()
			for _, ns := range shared.listens() {
				c.carriedIn[ns] = append(c.carriedIn[ns], shared)
			}
		}
		out = append(out, shared)
	}
	return out
}

// carriedAbout lists the terms of pods that are there which speak of a pod like this one.
func (c *cluster) carriedAbout(pod *corev1.Pod) []*carriedTerm {
	var out []*carriedTerm
	for _, ns := range [2]string{pod.Namespace, anyNamespace} {
		for _, t := range c.carriedIn[ns] {
			if t.matches(pod.Namespace, c.namespaces[pod.Namespace], pod.Labels) {
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, func(a, b *carriedTerm) int { return int(a.id) - int(b.id) })
	return out
}

// listens are the namespaces under which the term is found.
func (t *carriedTerm) listens() []string {
	if t.ofNamespace == labels.Nothing() {
		return t.namespaces
	}
	return []string{anyNamespace}
}

// mostCarried is how many terms are kept before those that nobody has any more are looked for.
const mostCarried = 1024

// sweepCarried forgets the terms that none of the pods has.
func (c *cluster) sweepCarried(pods iter.Seq[*podInfo]) {
	held := map[*carriedTerm]bool{}
	for p := range pods {
		for _, t := range p.terms {
			held[t] = true
		}
	}
	for key, t := range c.carried {
		if held[t] {
			continue
		}
		delete(c.carried, key)
		for _, ns := range t.listens() {
			c.carriedIn[ns] = slices.DeleteFunc(c.carriedIn[ns], func(o *carriedTerm) bool { return o == t })
		}
		c.dropTally(t.carriers)
	}
	c.relations++
	c.sweepAt = max(mostCarried, 2*len(c.carried))
}
