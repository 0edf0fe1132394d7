package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// content is what a namespace still holds.
type content struct {
	remaining  map[schema.GroupVersionResource]int // objects by resource
	finalizers map[string]int                      // objects by finalizer that holds them
	unknown    []error                             // kinds that can't be looked at
	failed     []error                             // deletions that failed
	touched    bool                                // there was something to delete
	watching   bool                                // watches of it have just begun
}

func (c *content) empty() bool {
	return len(c.remaining) == 0 && len(c.unknown) == 0 && len(c.failed) == 0
}

// conditions are those that describe the content, in upstream's words.
func (c *content) conditions() []corev1.NamespaceCondition {
	conditions := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	for i := range conditions {
		conditions[i].Status = corev1.ConditionFalse
	}
	set := func(i int, reason, message string) {
		conditions[i].Status, conditions[i].Reason, conditions[i].Message = corev1.ConditionTrue, reason, message
	}
	if len(c.unknown) > 0 {
		set(0, "DiscoveryFailed", fmt.Sprintf("Discovery failed for some groups, %d failing: %s", len(c.unknown), texts(c.unknown)))
	}
	if len(c.failed) > 0 {
		set(2, "ContentDeletionFailed", fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(c.failed), texts(c.failed)))
	}
	if len(c.remaining) > 0 {
		var parts []string
		for gvr, n := range c.remaining {
			parts = append(parts, fmt.Sprintf("%s.%s has %d resource instances", gvr.Resource, gvr.Group, n))
		}
		slices.Sort(parts)
		set(3, "SomeResourcesRemain", "Some resources are remaining: "+strings.Join(parts, ", "))
	}
	if len(c.finalizers) > 0 {
		var parts []string
		for _, f := range slices.Sorted(maps.Keys(c.finalizers)) {
			parts = append(parts, fmt.Sprintf("%s in %d resource instances", f, c.finalizers[f]))
		}
		set(4, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+strings.Join(parts, ", "))
	}
	return conditions
}

func texts(errs []error) string {
	parts := make([]string, len(errs))
	for i, err := range errs {
		parts[i] = err.Error()
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// withConditions returns the status with the conditions in it, and whether that changes it.
func withConditions(s corev1.NamespaceStatus, conditions []corev1.NamespaceCondition, now time.Time) (corev1.NamespaceStatus, bool) {
	changed := s.Phase != corev1.NamespaceTerminating
	s.Phase = corev1.NamespaceTerminating
	s.Conditions = slices.Clone(s.Conditions)
	for _, c := range conditions {
		c.LastTransitionTime = metav1.NewTime(now)
		i := slices.IndexFunc(s.Conditions, func(o corev1.NamespaceCondition) bool { return o.Type == c.Type })
		switch {
		case i < 0:
			s.Conditions = append(s.Conditions, c)
		case s.Conditions[i].Status == c.Status && s.Conditions[i].Reason == c.Reason && s.Conditions[i].Message == c.Message:
			continue
		default:
			if s.Conditions[i].Status == c.Status {
				c.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i] = c
		}
		changed = true
	}
	return s, changed
}

// withoutFinalizer returns the finalizers without this controller's.
func withoutFinalizer(list []corev1.FinalizerName) []corev1.FinalizerName {
	return slices.DeleteFunc(slices.Clone(list), func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
}
