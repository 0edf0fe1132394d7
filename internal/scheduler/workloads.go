package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// workloads knows which Services and controllers a pod belongs to, whose pods are spread though nobody has said so.
type workloads struct {
	services map[string]map[string]labels.Set // by namespace and name: the selectors
	owners   map[ownerKey]labels.Selector
}

// ownerKey names a controller of pods.
type ownerKey struct{ apiVersion, kind, namespace, name string }

func newWorkloads() workloads {
	return workloads{services: map[string]map[string]labels.Set{}, owners: map[ownerKey]labels.Selector{}}
}

// setService tells of a Service; selector is nil for one that is gone or has none.
func (c *cluster) setService(namespace, name string, selector labels.Set) {
	all := c.workloads.services[namespace]
	before, known := all[name]
	if selector == nil {
		if known {
			delete(all, name)
			c.relations++
		}
		return
	}
	if known && labels.Equals(before, selector) {
		return
	}
	if all == nil {
		all = map[string]labels.Set{}
		c.workloads.services[namespace] = all
	}
	all[name] = selector
	c.relations++
}

// setOwner tells of a controller of pods; selector is nil when it is gone.
func (c *cluster) setOwner(key ownerKey, selector labels.Selector) {
	before, known := c.workloads.owners[key]
	switch {
	case selector == nil && !known:
		return
	case selector == nil:
		delete(c.workloads.owners, key)
	case known && before.String() == selector.String():
		return
	default:
		c.workloads.owners[key] = selector
	}
	c.relations++
}

// selectorFor selects the pods of the Services and of the controller that a pod belongs to. It is empty if there are none.
func (w *workloads) selectorFor(pod *corev1.Pod) labels.Selector {
	set := labels.Set{}
	for _, s := range w.services[pod.Namespace] {
		if s.AsSelectorPreValidated().Matches(labels.Set(pod.Labels)) {
			set = labels.Merge(set, s)
		}
	}
	selector := set.AsSelectorPreValidated()
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return selector
	}
	other, ok := w.owners[ownerKey{owner.APIVersion, owner.Kind, pod.Namespace, owner.Name}]
	if !ok {
		return selector
	}
	requirements, selectable := other.Requirements()
	if !selectable {
		return selector
	}
	return selector.Add(requirements...)
}
