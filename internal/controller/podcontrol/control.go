package podcontrol

import (
	"context"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
)

// Parallel bounds how many pods one key's reconciliation writes at a time.
const Parallel = 32

// Control creates and deletes pods for owners and records it as events about them.
type Control struct {
	Client client.Client
	Events *events.Recorder
}

// FromTemplate makes a pod as a template says, named after its owner.
func FromTemplate(template *corev1.PodTemplateSpec, namespace, ownerName string, ref *metav1.OwnerReference) *corev1.Pod {
	prefix := ownerName + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = ownerName
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:    namespace,
			GenerateName: prefix,
			Labels:       maps.Clone(template.Labels),
			Annotations:  maps.Clone(template.Annotations),
			Finalizers:   slices.Clone(template.Finalizers),
		},
		Spec: *template.Spec.DeepCopy(),
	}
	if ref != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*ref}
	}
	return pod
}

// Create writes a new pod. about is the owner, as an object or a reference.
func (c Control) Create(ctx context.Context, about runtime.Object, pod *corev1.Pod) (*corev1.Pod, error) {
	created, err := client.Pods.Create(ctx, c.Client, pod)
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.Events.Eventf(about, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return nil, err
	}
	c.Events.Eventf(about, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", created.Name)
	return created, nil
}

// Delete deletes a pod. One that has gone is no error.
func (c Control) Delete(ctx context.Context, about runtime.Object, pod *corev1.Pod) error {
	err := client.Pods.Delete(ctx, c.Client, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another pod has its name
	}
	if err != nil {
		c.Events.Eventf(about, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return err
	}
	c.Events.Eventf(about, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
	return nil
}

// DeleteAll deletes pods in parallel and returns the first error.
func (c Control) DeleteAll(ctx context.Context, about runtime.Object, pods []*corev1.Pod) error {
	var g errgroup.Group
	g.SetLimit(Parallel)
	for _, pod := range pods {
		g.Go(func() error { return c.Delete(ctx, about, pod) })
	}
	return g.Wait()
}

// SlowStart calls fn for 0 to count-1 in batches that double, beginning with one, so that what fails for all fails
// only once. It stops after a batch with an error and returns how many calls succeeded.
func SlowStart(count int, fn func(i int) error) (succeeded int, err error) {
	for size := 1; succeeded < count; size *= 2 {
		size = min(size, count-succeeded)
		errs := make([]error, size)
		var g errgroup.Group
		g.SetLimit(Parallel)
		for i := range size {
			g.Go(func() error {
				errs[i] = fn(succeeded + i)
				return errs[i]
			})
		}
		err := g.Wait()
		for _, e := range errs {
			if e == nil {
				succeeded++
			}
		}
		if err != nil {
			return succeeded, err
		}
	}
	return succeeded, nil
}
