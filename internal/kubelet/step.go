package kubelet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// observeRetry is how soon a runtime that didn't answer is asked again.
const observeRetry = time.Second

// step looks at the pod once and starts what is to be done. It returns when to look again in any case, and whether the worker is over.
func (w *worker) step(ctx context.Context) (next time.Time, over bool) {
	w.now = time.Now()
	mail := w.collect(ctx)
	if mail.dirty {
		o, err := w.k.cri.Observe(ctx, w.uid)
		if ctx.Err() != nil {
			return time.Time{}, false
		}
		if err != nil {
			w.logger.Warn("runtime not read", "error", err)
			w.post(func(m *mailbox) { m.dirty = true })
			return time.Now().Add(observeRetry), false
		}
		w.k.metrics.countEnds(w.pod, w.observed, o)
		w.observed = w.amend(o, mail.hooking)
		w.k.pods.publish(w, w.observed)
	}
	if !w.admitted && !w.admit(ctx) {
		return time.Time{}, false
	}
	w.retryResize(ctx)
	w.syncProbes()
	w.checkEnd()
	w.act(ctx)
	w.report()
	return w.nextLook(), w.gone && w.op == nil && w.k.pods.isFinished(w)
}

// collect empties the mailbox.
func (w *worker) collect(ctx context.Context) mailbox {
	w.mu.Lock()
	mail := w.mail
	mail.hooking = maps.Clone(w.mail.hooking)
	w.mail = mailbox{hooking: w.mail.hooking}
	w.mu.Unlock()
	if mail.pod != nil {
		w.sawStart(mail.pod)
		w.grant(ctx, mail.pod, triggerUpdated)
		w.k.objects.Register(w.pod)
		if w.mounted != nil && volumes.Refreshable(w.pod) {
			w.stale = true // labels and annotations may be shown in a volume
		}
	}
	if mail.mirror != nil || mail.noMirror {
		if w.mirror == nil && mail.mirror != nil && len(mail.mirror.Status.ContainerStatuses) > 0 {
			w.status = formerStatus(mail.mirror) // an earlier process's: what this one made without knowing it was never told
		}
		w.mirror = mail.mirror
	}
	if mail.stale {
		w.stale = true
		w.retryAt, w.failures = time.Time{}, 0 // it may be what the pod was waiting for
		for name, why := range w.waiting {
			if why.Reason == reasonConfig {
				delete(w.waiting, name)
			}
		}
	}
	if mail.room {
		w.resize.retryAt = time.Time{}
	}
	if mail.kill != nil && w.verdict == nil {
		w.verdict, w.disrupt = &mail.kill.verdict, mail.kill.disrupt
		w.end(mail.kill.grace)
	}
	w.gone = w.gone || mail.gone
	return mail
}

// formerStatus is what a new process takes over from a static pod's mirror. Of an init container that has ended it is what the runtime still knows, as with
// upstream's kubelet.
func formerStatus(mirror *corev1.Pod) corev1.PodStatus {
	status := mirror.Status
	status.InitContainerStatuses = slices.DeleteFunc(slices.Clone(status.InitContainerStatuses), func(s corev1.ContainerStatus) bool { return s.State.Terminated != nil })
	return status
}

// amend adds to the runtime's report what only the worker knows. Containers whose post-start hook hasn't ended are shown as created: they are not running
// yet as far as anybody shall know. Grants that were changed in place replace those of the container's beginning.
func (w *worker) amend(o *lifecycle.Observed, hooking map[string]bool) *lifecycle.Observed {
	there := map[string]bool{}
	for i := range o.Containers {
		c := &o.Containers[i]
		there[c.ID] = true
		if hooking[c.Name] && c.State == lifecycle.Running {
			c.State = lifecycle.Created
		}
		if grant, ok := w.resize.applied[c.ID]; ok {
			c.Applied = grant
		}
	}
	maps.DeleteFunc(w.resize.applied, func(id, _ string) bool { return !there[id] })
	return o
}

// admit decides whether the pod may run here; false when that has to wait. What runs already was admitted before a restart.
func (w *worker) admit(ctx context.Context) bool {
	if w.observed == nil {
		return false
	}
	w.admitted = true
	if lifecycle.Terminal(w.pod.Status.Phase) || w.pod.DeletionTimestamp != nil || w.gone {
		return true
	}
	if refusal := w.k.admit(ctx, w.pod, len(w.observed.Containers) > 0); refusal != nil {
		w.k.metrics.admissionRefusals.WithLabelValues(refusal.Reason).Inc()
		w.k.events.Event(criconfig.PodReference(w.pod), corev1.EventTypeWarning, refusal.Reason, refusal.Message)
		w.refused = len(w.observed.Containers) == 0
		w.verdict = &lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: refusal.Reason, Message: "Pod was rejected: " + refusal.Message}
		w.end(nil)
	}
	return true
}

func (w *worker) syncProbes() {
	if w.stopped {
		return
	}
	ips := lifecycle.SortIPs(w.podIPs(), w.k.hostIPs)
	ip := ""
	if len(ips) > 0 {
		ip = ips[0]
	}
	w.probes.Sync(w.pod, ip, w.observed, w.wasStarted)
}

// podIPs returns the pod's addresses, which are the node's if it shares the node's network.
func (w *worker) podIPs() []string {
	if w.pod.Spec.HostNetwork {
		return w.k.hostIPs
	}
	return w.observed.IPs()
}

// wasStarted tells from the API's status that a container's startup probe had succeeded before this process began.
func (w *worker) wasStarted(name, id string) bool {
	known := w.known()
	for _, list := range [][]corev1.ContainerStatus{known.ContainerStatuses, known.InitContainerStatuses} {
		i := slices.IndexFunc(list, func(s corev1.ContainerStatus) bool { return s.Name == name })
		if i >= 0 && list[i].ContainerID == w.observed.ContainerID(id) && list[i].Started != nil && *list[i].Started {
			return true
		}
	}
	return false
}

// known is the status that the API has. Read-only.
func (w *worker) known() *corev1.PodStatus {
	if w.mirror != nil {
		return &w.mirror.Status
	}
	return &w.pod.Status
}

// health returns the verdicts of a container's probes.
func (w *worker) health(name, id string) lifecycle.Health {
	ref, ok := lifecycle.Find(w.pod, name)
	if !ok {
		return lifecycle.Health{}
	}
	return w.probes.Health(ref.Spec(w.pod), id)
}

// checkEnd finds out whether the pod is to end.
func (w *worker) checkEnd() {
	switch {
	case w.gone, w.pod.DeletionTimestamp != nil:
		w.end(nil)
	case w.ending:
	case lifecycle.Terminal(w.pod.Status.Phase) && !lifecycle.IsStatic(w.pod):
		w.end(nil)
	case w.pastDeadline():
		w.verdict = &lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
		w.k.events.Event(criconfig.PodReference(w.pod), corev1.EventTypeNormal, w.verdict.Reason, w.verdict.Message)
		w.end(nil)
	default:
		// Finished by itself: judged as if nothing ran, since sidecars may.
		in := w.statusInput()
		in.Stopped = true
		if s := lifecycle.Status(in); lifecycle.Terminal(s.Phase) && w.op == nil {
			w.end(nil)
		}
	}
	if w.ending && !w.stopped && w.op == nil && w.quiet() {
		w.stopped = true
	}
}

// end makes the pod end; asked is a grace period in seconds that somebody wants.
func (w *worker) end(asked *int64) {
	w.grace = lifecycle.PodGracePeriod(w.pod, asked, w.grace)
	if w.ending {
		return
	}
	w.ending = true
	if w.probes != nil {
		w.probes.StopLiveness()
	}
	w.retryAt, w.failures = time.Time{}, 0
}

// quiet tells whether nothing of the pod runs.
func (w *worker) quiet() bool {
	if len(w.observed.RunningContainers()) > 0 {
		return false
	}
	return !slices.ContainsFunc(w.observed.Sandboxes, func(s lifecycle.Sandbox) bool { return s.Ready })
}

func (w *worker) deadline() time.Time {
	if w.pod.Spec.ActiveDeadlineSeconds == nil || w.status.StartTime == nil {
		return time.Time{}
	}
	return w.status.StartTime.Add(time.Duration(*w.pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

func (w *worker) pastDeadline() bool {
	d := w.deadline()
	return !d.IsZero() && !w.now.Before(d)
}

// act starts the operation that is due, if any, or cuts short one that isn't wanted any more.
func (w *worker) act(ctx context.Context) {
	if w.op != nil {
		// Starting gives way to ending, and a long grace period to a shorter one.
		if w.ending && (w.op.kind == opSync || w.op.kind == opRefresh || w.op.kind == opKill && w.grace < w.op.grace) {
			w.op.cancel()
		}
		return
	}
	if w.now.Before(w.retryAt) {
		return
	}
	switch {
	case w.ending && !w.stopped:
		pod, observed, grace := w.pod, w.observed, w.grace
		w.begin(ctx, opKill, grace, func(ctx context.Context) outcome { return w.killPod(ctx, pod, observed, &grace) })
	case w.ending && !w.cleaned:
		pod := w.pod
		w.begin(ctx, opClean, 0, func(ctx context.Context) outcome { return w.clean(ctx, pod) })
	case w.ending:
		if w.gone && !w.k.pods.isFinished(w) {
			pod, observed := w.pod, w.observed
			w.begin(ctx, opPurge, 0, func(ctx context.Context) outcome { return w.purge(ctx, pod, observed) })
		}
	default:
		w.actOnPlan(ctx)
	}
}

// actOnPlan starts what brings the pod to what its spec wants.
func (w *worker) actOnPlan(ctx context.Context) {
	plan := lifecycle.Decide(lifecycle.Input{Pod: w.pod, Observed: w.observed, Health: w.health, Hash: criconfig.Hash,
		Resources: func(c *corev1.Container) string { return criconfig.ResourcesKey(w.pod, c) }})
	w.settleResize(&plan)
	plan.Start = slices.DeleteFunc(plan.Start, func(r lifecycle.Ref) bool {
		spec := r.Spec(w.pod)
		why := w.waiting[spec.Name]
		return w.now.Before(why.until) && (why.spec == "" || why.spec == criconfig.Hash(spec))
	})
	if at := volumes.RefreshAt(w.mounted); !at.IsZero() && !at.After(w.now) {
		w.stale = true
	}
	unbound := w.unbound()
	if plan.Empty() && !unbound {
		if w.stale && w.mounted != nil {
			w.stale = false
			pod := w.pod
			w.begin(ctx, opRefresh, 0, func(ctx context.Context) outcome { return w.refreshVolumes(ctx, pod) })
		}
		return
	}
	w.stale = false
	run := w.newSync(plan)
	run.unbound = unbound
	w.begin(ctx, opSync, 0, run.execute)
	w.op.replaces, w.op.creates = plan.Replaces(w.pod), plan.CreateSandbox && plan.Attempt == 0
}

// nextLook is the earliest time at which something is due without any news. What was due at the time of this look has been acted upon.
func (w *worker) nextLook() time.Time {
	var next time.Time
	consider := func(t time.Time) {
		if t.After(w.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if w.op == nil {
		consider(w.retryAt)
	}
	if !w.ending {
		consider(w.deadline())
		if w.resize.desired != nil {
			consider(w.resize.retryAt)
		}
		consider(volumes.RefreshAt(w.mounted))
		for _, why := range w.waiting {
			consider(why.until)
		}
	}
	return next
}

func (w *worker) statusInput() lifecycle.StatusInput {
	previous := w.status
	if previous.Phase == "" {
		previous = *w.known()
	}
	waiting := make(map[string]lifecycle.Waiting, len(w.waiting))
	for name, why := range w.waiting {
		waiting[name] = why.Waiting
	}
	return lifecycle.StatusInput{
		Pod: w.pod, Observed: w.observed, Previous: previous, Health: w.health, Waiting: waiting,
		Ended: w.ending, Stopped: w.stopped, Verdict: w.verdict, Disruption: w.disrupt, Resize: w.resize.conditions(), Enforced: w.resize.stillEnforced(), HostIPs: w.k.hostIPs, Now: w.now,
	}
}

// report makes the status and hands it to the writer.
func (w *worker) report() {
	status := lifecycle.Status(w.statusInput())
	if w.cleaned {
		status = lifecycle.Finish(w.pod, status)
	}
	if w.refused { // Its containers have no story.
		status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses = nil, nil, nil
	}
	w.k.dra.AddStatus(w.pod, &status, &w.status)
	w.k.resources.Health(w.uid, &status)
	if w.status.Phase == corev1.PodPending && status.Phase == corev1.PodRunning {
		w.k.metrics.start.pod.Observe(w.now.Sub(w.since).Seconds())
	}
	if apiequality.Semantic.DeepEqual(&status, &w.pod.Status) {
		status = w.pod.Status // rather than to keep the same beside it
	}
	w.status = status
	w.k.pods.publishStatus(w, w.pod, status)
	target := w.pod
	if lifecycle.IsStatic(w.pod) {
		target = w.mirror
	}
	if target == nil || w.gone && !lifecycle.IsStatic(w.pod) {
		return
	}
	w.k.statuses.set(target, status, w.keepStatus(&status), w.cleaned && target.DeletionTimestamp != nil && !lifecycle.IsStatic(w.pod))
}

// keepStatus tells how long a status may wait for a more telling one.
func (w *worker) keepStatus(status *corev1.PodStatus) time.Duration {
	switch {
	case w.op != nil && w.op.replaces && !w.ending:
		return replacing
	case preparing(status):
		return settling
	default:
		return 0
	}
}

// String names the worker's pod in messages.
func (w *worker) String() string { return fmt.Sprintf("%s/%s", w.pod.Namespace, w.pod.Name) }
