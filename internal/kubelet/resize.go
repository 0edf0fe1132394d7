package kubelet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/admission"
	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// resizeRetry is how soon a resize that didn't fit is looked at again when no pod has left meanwhile.
const resizeRetry = time.Minute

// resizing is a worker's change of resources.
type resizing struct {
	desired  *corev1.Pod          // as the API has it, while its resources are not granted
	pending  *corev1.PodCondition // why not
	running  *corev1.PodCondition // granted and being carried out
	retryAt  time.Time
	applied  map[string]string            // what containers were granted in place, by ID
	bound    cgroups.Limits               // what the pod's own group was given last; zero is unknown
	enforced *corev1.ResourceRequirements // those of the pod as a whole that these came from
}

// grant takes in a new version of the pod: what it asks for is granted if the node has it, else the pod goes on with what it has.
func (w *worker) grant(ctx context.Context, pod *corev1.Pod, trigger string) {
	if w.pod != nil && trigger == triggerUpdated {
		w.k.metrics.resizes.ask(cmp.Or(w.resize.desired, w.pod), pod)
	}
	if w.pod == nil || w.ending || sameResources(w.pod, pod) {
		w.pod = pod
		w.resize.desired, w.resize.pending = nil, nil
		return
	}
	refusal := w.k.admitResize(ctx, pod)
	if refusal == nil {
		if w.resize.desired != nil {
			w.k.metrics.resizes.accepted.WithLabelValues(trigger).Inc()
		}
		w.pod = pod
		w.resize.desired, w.resize.pending = nil, nil
		w.resize.running = w.resizeCondition(corev1.PodResizeInProgress, pod, "", "")
		w.k.events.Event(criconfig.PodReference(pod), corev1.EventTypeNormal, "ResizeStarted", resizeMessage("Pod resize started", pod, ""))
		return
	}
	if p := w.resize.pending; p == nil || p.Reason != refusal.reason || p.ObservedGeneration != pod.Generation {
		event := "ResizeDeferred"
		if refusal.reason == corev1.PodReasonInfeasible {
			event = "ResizeInfeasible"
		}
		if refusal.detail != "" {
			w.k.metrics.resizes.infeasible.WithLabelValues(refusal.detail).Inc()
		}
		w.k.events.Event(criconfig.PodReference(pod), corev1.EventTypeWarning, event, resizeMessage("Pod resize "+refusal.reason, pod, refusal.message))
		w.resize.pending = w.resizeCondition(corev1.PodResizePending, pod, refusal.reason, refusal.message)
	}
	w.resize.desired, w.resize.retryAt = pod, time.Now().Add(resizeRetry)
	w.pod = withResources(pod, w.pod)
}

// retryResize looks again at a resize that didn't fit.
func (w *worker) retryResize(ctx context.Context) {
	if w.resize.desired == nil || w.now.Before(w.resize.retryAt) {
		return
	}
	trigger := triggerPeriodic
	if w.resize.retryAt.IsZero() {
		trigger = triggerTerminated
	}
	w.grant(ctx, w.resize.desired, trigger)
}

func (w *worker) resizeCondition(t corev1.PodConditionType, pod *corev1.Pod, reason, message string) *corev1.PodCondition {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	return &corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: pod.Generation, LastProbeTime: now, LastTransitionTime: now}
}

func (r *resizing) conditions() []corev1.PodCondition {
	var out []corev1.PodCondition
	if r.pending != nil {
		out = append(out, *r.pending)
	}
	if r.running != nil {
		out = append(out, *r.running)
	}
	return out
}

// settleResize notes that everything granted is in force.
func (w *worker) settleResize(plan *lifecycle.Plan) {
	if w.resize.running == nil || w.unbound() || len(plan.Resize) > 0 || len(plan.Kill) > 0 || w.op != nil {
		return
	}
	w.resize.running = nil
	w.k.events.Event(criconfig.PodReference(w.pod), corev1.EventTypeNormal, "ResizeCompleted", resizeMessage("Pod resize completed", w.pod, ""))
}

// unbound tells that the group of a pod that runs has other bounds than the pod's, as far as known.
func (w *worker) unbound() bool {
	s := w.observed.Sandbox()
	return s != nil && s.Ready && w.resize.bound != w.k.tree.Limits(w.pod)
}

// stillEnforced are the resources of the pod as a whole that are still in force while others are granted; nil when the spec's are.
func (r *resizing) stillEnforced() *corev1.ResourceRequirements {
	if r.running == nil {
		return nil
	}
	return r.enforced
}

// resizeFailed notes why a grant isn't in force.
func (w *worker) resizeFailed(message string) {
	if w.resize.running == nil || w.resize.running.Message == message {
		return
	}
	w.resize.running = w.resizeCondition(corev1.PodResizeInProgress, w.pod, corev1.PodReasonError, message)
	w.k.events.Event(criconfig.PodReference(w.pod), corev1.EventTypeWarning, "ResizeError", resizeMessage("Pod resize error", w.pod, message))
}

func sameResources(a, b *corev1.Pod) bool {
	if !apiequality.Semantic.DeepEqual(a.Spec.Resources, b.Spec.Resources) {
		return false
	}
	same := func(a, b []corev1.Container) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if !apiequality.Semantic.DeepEqual(a[i].Resources, b[i].Resources) {
				return false
			}
		}
		return true
	}
	return same(a.Spec.Containers, b.Spec.Containers) && same(a.Spec.InitContainers, b.Spec.InitContainers)
}

// withResources returns a pod with the resources of a former version.
func withResources(pod, former *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	out.Spec.Resources = former.Spec.Resources
	for i := range out.Spec.Containers {
		out.Spec.Containers[i].Resources = former.Spec.Containers[i].Resources
	}
	for i := range out.Spec.InitContainers {
		out.Spec.InitContainers[i].Resources = former.Spec.InitContainers[i].Resources
	}
	return out
}

// resizeRefusal is why a pod doesn't get what it asks for now.
type resizeRefusal struct {
	reason, message string
	detail          string // by which infeasible ones are counted; "" is none that upstream has
}

func infeasible(detail, message string) *resizeRefusal {
	return &resizeRefusal{reason: corev1.PodReasonInfeasible, message: message, detail: detail}
}

// admitResize decides whether the node has what a pod asks for now.
func (k *Kubelet) admitResize(ctx context.Context, pod *corev1.Pod) *resizeRefusal {
	if lifecycle.IsStatic(pod) {
		return infeasible("", "In-place resize of static-pods is not supported")
	}
	if former := k.pods.grantedPod(pod.UID); former != nil && !configuration.PodLevelResize(k.cfg.Settings) && !apiequality.Semantic.DeepEqual(former.Spec.Resources, pod.Spec.Resources) {
		return infeasible("plr_feature_gate_off", "InPlacePodLevelResourcesVerticalScaling is disabled")
	}
	if detail, problem := k.refusePinned(pod); problem != "" {
		return infeasible(detail, problem)
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, have := requests[name], k.allocatable[name]
		if want.Cmp(have) > 0 {
			amount := func(q int64, milli int64) int64 {
				if name == corev1.ResourceCPU {
					return milli
				}
				return q
			}
			return infeasible("", fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, amount(want.Value(), want.MilliValue()), amount(have.Value(), have.MilliValue())))
		}
	}
	k.pods.admission.Lock()
	defer k.pods.admission.Unlock()
	in := admission.Input{Pod: pod, Others: k.pods.holding(pod.UID), Allocatable: k.allocatable, UnsafeSysctls: k.cfg.Settings.AllowedUnsafeSysctls, AppArmor: appArmor(), GroupsPolicy: k.knowsGroupsPolicy()}
	if refusal := admission.Check(in); refusal != nil {
		return &resizeRefusal{reason: corev1.PodReasonDeferred, message: refusal.Message}
	}
	k.pods.grant(pod)
	return nil
}

// grantSummary is what events of a resize tell.
type grantSummary struct {
	InitContainers []containerGrant `json:"initContainers,omitempty"`
	Containers     []containerGrant `json:"containers,omitempty"`
	Generation     int64            `json:"generation"`
	Error          string           `json:"error,omitempty"`
}

type containerGrant struct {
	Name      string                      `json:"name"`
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

func resizeMessage(prefix string, pod *corev1.Pod, problem string) string {
	s := grantSummary{Generation: pod.Generation, Error: problem}
	for i := range pod.Spec.InitContainers {
		s.InitContainers = append(s.InitContainers, containerGrant{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		s.Containers = append(s.Containers, containerGrant{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	data, err := json.Marshal(s)
	if err != nil {
		return prefix
	}
	return prefix + ": " + string(data)
}

// resize carries out a granted change: the pod's own bounds give way first and follow last, so that at no time a container has more than its pod.
func (r *syncRun) resize(ctx context.Context) (err error) {
	if len(r.plan.Resize) > 0 {
		defer func(began time.Time) { r.k.metrics.resizes.carriedOut(began, err) }(time.Now())
	}
	if limit := cgroups.PodLimits(r.pod, 0).Memory; limit > 0 {
		if used, err := r.k.tree.PodUsage(r.pod); err == nil && used.MemoryBytes > uint64(limit) {
			return fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", limit, used.MemoryBytes)
		}
	}
	if len(r.plan.Resize) > 0 {
		if err := r.k.tree.LoosenPod(r.pod); err != nil {
			return err
		}
	}
	for _, ref := range r.plan.Resize {
		c := ref.Spec(r.pod)
		seen := r.observed.Container(c.Name)
		_, err := r.k.cri.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: seen.ID, Linux: criconfig.Resources(r.k.translate, r.pod, c)})
		if err != nil {
			return fmt.Errorf("resize container %s: %w", c.Name, err)
		}
		r.out.applied[seen.ID] = criconfig.ResourcesKey(r.pod, c)
	}
	if err := r.k.tree.UpdatePod(r.pod); err != nil {
		return err
	}
	r.out.bound, r.out.enforced = r.k.tree.Limits(r.pod), r.pod.Spec.Resources
	return r.k.updateQOS()
}

// updateQOS weighs burstable pods together by what they request.
func (k *Kubelet) updateQOS() error { return k.tree.UpdateQOS(k.pods.burstableCPU()) }
