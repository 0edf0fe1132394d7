package core

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
)

// evictionSubresource deletes a pod if its disruption budget allows that.
var evictionSubresource = api.Subresource{
	Name:  "eviction",
	Verbs: []string{"create"},
	GVK:   policyv1.SchemeGroupVersion.WithKind("Eviction"),
	New:   func() runtime.Object { return &policyv1.Eviction{} },
	Check: func(name string, body runtime.Object, opts *metav1.CreateOptions) error {
		req := body.(*policyv1.Eviction)
		if req.Name != name {
			return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
		}
		_, err := evictionOptions(req, opts)
		return err
	},
	Create: createEviction,
}

var (
	podResource    = corev1.SchemeGroupVersion.WithResource("pods")
	budgetResource = policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
)

const (
	// maxDisruptedPods bounds the evictions that a budget's controller has not noticed yet.
	maxDisruptedPods = 2000
	// A conflict is retried this often, at this pace.
	evictionTries    = 20
	evictionInterval = 500 * time.Millisecond
)

// An eviction is one request's work.
type eviction struct {
	env     api.Env
	opts    metav1.DeleteOptions // as the client gave them
	dryRun  bool
	pinned  bool // the client named a resourceVersion
	ns, pod string
}

func createEviction(ctx context.Context, env api.Env, parent api.Object, body runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
	req := body.(*policyv1.Eviction)
	del, err := evictionOptions(req, opts)
	if err != nil {
		return nil, err
	}
	if errs := metav1validation.ValidateDeleteOptions(&del); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	e := eviction{env: env, opts: del, ns: parent.GetNamespace(), pod: parent.GetName(), dryRun: len(del.DryRun) > 0}
	e.pinned = del.Preconditions != nil && del.Preconditions.ResourceVersion != nil
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// evictionOptions merges the dry run of the request into the options of the delete.
func evictionOptions(req *policyv1.Eviction, opts *metav1.CreateOptions) (metav1.DeleteOptions, error) {
	var asked []string
	if opts != nil {
		asked = opts.DryRun
	}
	if req.DeleteOptions == nil {
		return metav1.DeleteOptions{DryRun: asked}, nil
	}
	del := *req.DeleteOptions.DeepCopy()
	if unsafe := del.IgnoreStoreReadErrorWithClusterBreakingPotential; unsafe != nil && *unsafe {
		path := field.NewPath("deleteOptions").Child("ignoreStoreReadErrorWithClusterBreakingPotential")
		return del, apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), req.Name, field.ErrorList{
			field.Invalid(path, true, "can not be set for pod eviction, try after removing the option"),
		})
	}
	switch {
	case len(del.DryRun) == 0:
		del.DryRun = asked
	case len(asked) > 0 && !reflect.DeepEqual(asked, del.DryRun):
		return del, fmt.Errorf("Non-matching dry-run options in request and content: %v and %v", asked, del.DryRun)
	}
	return del, nil
}

func (e *eviction) run(ctx context.Context) error {
	pod, deleted, err := e.deleteUnprotected(ctx)
	if err != nil || deleted {
		return err
	}
	budget, err := e.budgetOf(ctx, pod)
	if err != nil {
		return err
	}
	if budget == nil {
		return e.delete(ctx, e.opts)
	}
	if !isReady(pod) && allowsUnhealthy(budget) {
		return e.deleteUnhealthy(ctx, pod, budget)
	}
	if err := e.spend(ctx, budget); err != nil {
		return err
	}
	return e.delete(ctx, e.opts)
}

// deleteUnprotected deletes a pod whose loss costs its application nothing: it is not running yet, or no more.
func (e *eviction) deleteUnprotected(ctx context.Context) (pod *corev1.Pod, deleted bool, err error) {
	err = e.retry(ctx, !e.pinned, func() error {
		obj, err := e.env.Client().Get(ctx, podResource, e.ns, e.pod)
		if err != nil {
			return err
		}
		pod = obj.(*corev1.Pod)
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil
		if !ended && pod.Status.Phase != corev1.PodPending {
			return nil
		}
		opts := e.opts
		if !ended && !e.pinned {
			opts = pinnedTo(opts, pod.ResourceVersion)
		}
		deleted = true
		return e.delete(ctx, opts)
	})
	return pod, deleted && err == nil, err
}

func pinnedTo(opts metav1.DeleteOptions, version string) metav1.DeleteOptions {
	var p metav1.Preconditions
	if opts.Preconditions != nil {
		p = *opts.Preconditions
	}
	p.ResourceVersion = &version
	opts.Preconditions = &p
	return opts
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// budgetOf returns the one budget that protects a pod, or nil.
func (e *eviction) budgetOf(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	all, err := e.env.Client().List(ctx, budgetResource, e.ns, labels.Everything())
	if err != nil {
		return nil, err
	}
	var found *policyv1.PodDisruptionBudget
	for _, obj := range all {
		budget := obj.(*policyv1.PodDisruptionBudget)
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
			continue // an invalid selector matches nothing
		}
		if found != nil {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
				Status:  metav1.StatusFailure,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
				Code:    500,
			}}
		}
		found = budget
	}
	return found, nil
}

// allowsUnhealthy tells whether a pod that isn't ready may go without using the budget up.
func allowsUnhealthy(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// deleteUnhealthy makes sure that the pod has not become ready meanwhile.
func (e *eviction) deleteUnhealthy(ctx context.Context, pod *corev1.Pod, budget *policyv1.PodDisruptionBudget) error {
	err := e.delete(ctx, pinnedTo(e.opts, pod.ResourceVersion))
	if apierrors.IsConflict(err) && !e.pinned {
		return tooManyRequests(budget.Name)
	}
	return err
}

// spend takes one disruption out of the budget.
func (e *eviction) spend(ctx context.Context, budget *policyv1.PodDisruptionBudget) error {
	first := true
	err := e.retry(ctx, true, func() error {
		if !first {
			obj, err := e.env.Client().Get(ctx, budgetResource, e.ns, budget.Name)
			if err != nil {
				return err
			}
			budget = obj.(*policyv1.PodDisruptionBudget)
		}
		first = false
		spent, err := Disrupt(budget, e.pod, metav1.Now())
		if err != nil || e.dryRun {
			return err
		}
		_, err = e.env.Client().Update(ctx, budgetResource, "status", spent, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsConflict(err) {
		return apierrors.NewTimeoutError(fmt.Sprintf("couldn't update PodDisruptionBudget %q due to conflicts", budget.Name), 10)
	}
	return err
}

// Disrupt returns the budget as it is once the pod is allowed to go, or the refusal.
func Disrupt(b *policyv1.PodDisruptionBudget, pod string, now metav1.Time) (*policyv1.PodDisruptionBudget, error) {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return nil, tooManyRequests(b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return nil, apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisruptedPods:
		return nil, apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name,
			errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		refusal := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		addBudgetCause(refusal, exhaustedBy(b))
		return nil, refusal
	}
	spent := b.DeepCopy()
	spent.Status.DisruptionsAllowed--
	if spent.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&spent.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
			ObservedGeneration: spent.Status.ObservedGeneration,
		})
	}
	if spent.Status.DisruptedPods == nil {
		spent.Status.DisruptedPods = map[string]metav1.Time{}
	}
	spent.Status.DisruptedPods[pod] = now
	return spent, nil
}

// exhaustedBy tells why a budget allows no more disruption.
func exhaustedBy(b *policyv1.PodDisruptionBudget) string {
	c := meta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	explained := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case explained && c.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", b.Name, c.Message)
	case b.Status.CurrentHealthy <= b.Status.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	case explained:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", b.Name, c.Reason, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", b.Name)
}

func tooManyRequests(budget string) error {
	refusal := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
	addBudgetCause(refusal, fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget))
	return refusal
}

func addBudgetCause(refusal *apierrors.StatusError, message string) {
	d := refusal.ErrStatus.Details
	d.Causes = append(d.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
}

// delete records in the pod's status why it goes, and deletes it.
func (e *eviction) delete(ctx context.Context, opts metav1.DeleteOptions) error {
	if !e.dryRun {
		marked, err := e.mark(ctx, opts.Preconditions)
		if err != nil {
			return err
		}
		if opts.Preconditions != nil && opts.Preconditions.ResourceVersion != nil {
			opts = pinnedTo(opts, marked.GetResourceVersion())
		}
	}
	return e.env.Client().Delete(ctx, podResource, e.ns, e.pod, opts)
}

// mark adds the DisruptionTarget condition to the latest pod, if it meets the preconditions.
func (e *eviction) mark(ctx context.Context, pre *metav1.Preconditions) (marked api.Object, err error) {
	pinned := pre != nil && pre.ResourceVersion != nil
	err = e.retry(ctx, !pinned, func() error {
		obj, err := e.env.Client().Get(ctx, podResource, e.ns, e.pod)
		if err != nil {
			return err
		}
		pod := obj.(*corev1.Pod).DeepCopy()
		if err := meets(pod, pre); err != nil {
			return err
		}
		setPodCondition(&pod.Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		}, metav1.Now())
		marked, err = e.env.Client().Update(ctx, podResource, "status", pod, metav1.UpdateOptions{})
		return err
	})
	return marked, err
}

func meets(pod *corev1.Pod, pre *metav1.Preconditions) error {
	if pre == nil {
		return nil
	}
	conflict := func(format string, want, have any) error {
		return apierrors.NewConflict(corev1.Resource("Pod"), pod.Name, fmt.Errorf(format, want, have))
	}
	if uid := pre.UID; uid != nil && *uid != "" && *uid != pod.UID {
		return conflict("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *uid, pod.UID)
	}
	if v := pre.ResourceVersion; v != nil && *v != "" && *v != pod.ResourceVersion {
		return conflict("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *v, pod.ResourceVersion)
	}
	return nil
}

// retry repeats what failed by a conflict, if that is wanted.
func (e *eviction) retry(ctx context.Context, wanted bool, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if !apierrors.IsConflict(err) || !wanted || try == evictionTries {
			return err
		}
		pause := time.NewTimer(evictionInterval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}
