package disruption

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

const (
	// deletionTimeout is how long after an eviction was allowed the pod counts as gone.
	deletionTimeout = 2 * time.Minute
	// staleTimeout is how long a pod may say that it's about to be disrupted without being deleted.
	staleTimeout = 2 * time.Minute
)

// state is what a status is made from. Read-only.
type state struct {
	budget *policyv1.PodDisruptionBudget
	pods   []*corev1.Pod
	// scale returns the owner of a pod and how many pods that wants; ok is false for a pod that nobody manages.
	scale func(*corev1.Pod) (owner types.UID, replicas int32, ok bool, err error)
	now   time.Time
}

// expected returns how many pods there should be, how many of them must be healthy, and the names of pods that count in neither.
func (s *state) expected() (count, healthy int32, unmanaged []string, err error) {
	spec := &s.budget.Spec
	switch {
	case spec.MaxUnavailable != nil:
		if count, unmanaged, err = s.scales(); err != nil {
			return 0, 0, nil, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(count), true)
		return count, max(count-int32(n), 0), unmanaged, err
	case spec.MinAvailable != nil && spec.MinAvailable.Type == intstr.Int:
		return int32(len(s.pods)), spec.MinAvailable.IntVal, nil, nil
	case spec.MinAvailable != nil:
		if count, unmanaged, err = s.scales(); err != nil {
			return 0, 0, nil, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(count), true)
		return count, int32(n), unmanaged, err
	}
	return 0, 0, nil, nil
}

// scales sums up what the pods' owners want.
func (s *state) scales() (sum int32, unmanaged []string, err error) {
	seen := map[types.UID]bool{}
	var errs []error
	for _, pod := range s.pods {
		owner, replicas, ok, err := s.scale(pod)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			unmanaged = append(unmanaged, pod.Name)
		case !seen[owner]:
			seen[owner] = true
			sum += replicas
		}
	}
	if len(errs) > 0 {
		return 0, nil, errs[0]
	}
	return sum, unmanaged, nil
}

// disrupted returns those of the evictions that were allowed whose pods are still to go, the pods that should have gone, and
// when to look again; 0 if there's nothing to wait for.
func (s *state) disrupted() (pending map[string]metav1.Time, overdue []*corev1.Pod, again time.Duration) {
	pending = map[string]metav1.Time{}
	for _, pod := range s.pods {
		at, ok := s.budget.Status.DisruptedPods[pod.Name]
		if !ok || pod.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(deletionTimeout).Sub(s.now)
		if left < 0 {
			overdue = append(overdue, pod)
			continue
		}
		pending[pod.Name] = at
		if left = max(left, time.Second); again == 0 || left < again {
			again = left
		}
	}
	return pending, overdue, again
}

// status computes the budget's status.
func (s *state) status(count, healthy int32, pending map[string]metav1.Time) policyv1.PodDisruptionBudgetStatus {
	current := int32(0)
	for _, pod := range s.pods {
		if _, gone := pending[pod.Name]; !gone && pod.DeletionTimestamp == nil && podcontrol.Ready(pod) {
			current++
		}
	}
	allowed := max(current-healthy, 0)
	if count <= 0 {
		allowed = 0
	}
	out := *s.budget.Status.DeepCopy()
	out.CurrentHealthy, out.DesiredHealthy, out.ExpectedPods, out.DisruptionsAllowed = current, healthy, count, allowed
	out.DisruptedPods = pending
	if len(pending) == 0 {
		out.DisruptedPods = nil
	}
	out.ObservedGeneration = s.budget.Generation
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason, ObservedGeneration: s.budget.Generation}
	if allowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	setCondition(&out, c, s.now)
	return out
}

// failed is the status when it can't be computed: nothing may be evicted.
func (s *state) failed(cause error) policyv1.PodDisruptionBudgetStatus {
	out := *s.budget.Status.DeepCopy()
	out.DisruptionsAllowed = 0
	out.ObservedGeneration = s.budget.Generation
	setCondition(&out, metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: cause.Error(), ObservedGeneration: s.budget.Generation}, s.now)
	return out
}

func setCondition(s *policyv1.PodDisruptionBudgetStatus, c metav1.Condition, now time.Time) {
	c.LastTransitionTime = metav1.NewTime(now)
	meta.SetStatusCondition(&s.Conditions, c)
}

var errNoController = errors.New("found no controllers for pod")

func noController(pod *corev1.Pod) error { return fmt.Errorf("%w %q", errNoController, pod.Name) }

// stale tells how long a pod still has to be deleted after it was said to be about to; false if it wasn't said.
func stale(pod *corev1.Pod, now time.Time) (left time.Duration, said bool) {
	c := podcontrol.Condition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue || pod.DeletionTimestamp != nil || podcontrol.Terminal(pod) {
		return 0, false
	}
	return c.LastTransitionTime.Add(staleTimeout).Sub(now), true
}
