package resourcequota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/quota"
)

// objectsOf lists a namespace's objects of a resource; items would do where they are only counted.
type objectsOf func(gr schema.GroupResource) ([]runtime.Object, error)

// resourcesOf returns the resources that a quota's names concern, of those there are.
func resourcesOf(q *corev1.ResourceQuota, all []schema.GroupResource, d quota.Devices) []schema.GroupResource {
	names := quota.Names(q.Spec.Hard)
	return slices.DeleteFunc(slices.Clone(all), func(gr schema.GroupResource) bool { return len(quota.For(gr, d).Names(names)) == 0 })
}

// counted returns the quota's status. Names that nothing here knows keep the usage that they had.
func counted(q *corev1.ResourceQuota, resources []schema.GroupResource, d quota.Devices, list objectsOf, pending corev1.ResourceList, now time.Time) (corev1.ResourceQuotaStatus, error) {
	found := corev1.ResourceList{}
	for _, gr := range resourcesOf(q, resources, d) {
		objects, err := list(gr)
		if err != nil {
			return corev1.ResourceQuotaStatus{}, err
		}
		found = quota.Add(found, quota.Usage(q, quota.For(gr, d), objects, now))
	}
	used := quota.Add(q.Status.Used, nil)
	for name, n := range found {
		used[name] = n
	}
	used = quota.Add(used, quota.Mask(pending, quota.Names(used)))
	return corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: quota.Mask(used, quota.Names(q.Spec.Hard))}, nil
}

func dirty(q *corev1.ResourceQuota, s corev1.ResourceQuotaStatus) bool {
	return q.Status.Hard == nil || q.Status.Used == nil || !equality.Semantic.DeepEqual(q.Status.Hard, s.Hard) || !quota.Equal(q.Status.Used, s.Used)
}

// freed tells whether an update of an object may have lowered what it uses.
func freed(old, now runtime.Object) bool {
	switch now := now.(type) {
	case *corev1.Pod:
		was, ok := old.(*corev1.Pod)
		return ok && (over(now) && !over(was) || !equality.Semantic.DeepEqual(was.Spec.Containers, now.Spec.Containers) || !equality.Semantic.DeepEqual(was.Spec.ActiveDeadlineSeconds, now.Spec.ActiveDeadlineSeconds))
	case *corev1.Service:
		was, ok := old.(*corev1.Service)
		return ok && (was.Spec.Type != now.Spec.Type || len(was.Spec.Ports) != len(now.Spec.Ports))
	case *corev1.PersistentVolumeClaim:
		was, ok := old.(*corev1.PersistentVolumeClaim)
		return ok && (!equality.Semantic.DeepEqual(was.Status.AllocatedResources, now.Status.AllocatedResources) ||
			!equality.Semantic.DeepEqual(was.Spec.VolumeAttributesClassName, now.Spec.VolumeAttributesClassName) ||
			!equality.Semantic.DeepEqual(was.Status.CurrentVolumeAttributesClassName, now.Status.CurrentVolumeAttributesClassName))
	}
	return false
}

func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// countable tells whether quotas count objects of a resource.
func countable(namespaced bool, verbs []string, gr schema.GroupResource) bool {
	return namespaced && !strings.Contains(gr.Resource, "/") && gr.Resource != "events" &&
		(verbs == nil || slices.Contains(verbs, "create") && slices.Contains(verbs, "list") && slices.Contains(verbs, "watch"))
}
