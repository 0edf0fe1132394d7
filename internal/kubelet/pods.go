package kubelet

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// pods knows the workers, and what they have found out last.
type pods struct {
	k   *Kubelet
	ctx context.Context
	wg  sync.WaitGroup

	mu      sync.Mutex
	workers map[types.UID]*entry
	mirrors map[types.NamespacedName]*corev1.Pod

	admission sync.Mutex // lets one pod at a time in
}

// entry is one worker and what it publishes.
type entry struct {
	worker   *worker
	pod      *corev1.Pod
	granted  *corev1.Pod // as it was admitted or resized last; nil if it wasn't
	status   corev1.PodStatus
	observed *lifecycle.Observed
	ending   bool
	stopped  bool
	cleaned  bool
	finished bool
	leaving  bool // no source has it any more
	returns  bool // a source has it again, and it starts anew once it has ended
	unknown  bool // no source had it since this process began
	deferred bool // asks for more than it has got
	// waiters are told of every change until their context ends.
	waiters map[chan struct{}]bool
}

func newPods(k *Kubelet) *pods {
	return &pods{k: k, workers: map[types.UID]*entry{}, mirrors: map[types.NamespacedName]*corev1.Pod{}}
}

// update takes in a pod from a source.
func (p *pods) update(pod *corev1.Pod) {
	pod = p.k.withoutUnknown(pod)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[pod.UID]; e != nil {
		e.worker.update(pod)
		return
	}
	p.k.metrics.containersPerPod.Observe(float64(len(pod.Spec.Containers)))
	p.start(p.k.newWorker(pod), pod)
}

// withoutUnknown returns a pod without what a closed gate keeps the kubelet from knowing.
func (k *Kubelet) withoutUnknown(pod *corev1.Pod) *corev1.Pod {
	if pod.Spec.Resources == nil || configuration.PodLevelResources(k.cfg.Settings) {
		return pod
	}
	out := pod.DeepCopy()
	out.Spec.Resources = nil
	return out
}

// start runs a new worker; the lock is held.
func (p *pods) start(w *worker, pod *corev1.Pod) {
	if p.ctx.Err() != nil {
		return
	}
	p.workers[pod.UID] = &entry{worker: w, pod: pod, status: pod.Status, waiters: map[chan struct{}]bool{}}
	if lifecycle.IsStatic(pod) {
		if mirror := p.mirrors[fullName(pod)]; mirror != nil && reflects(mirror, pod) {
			w.setMirror(mirror)
		}
	}
	p.wg.Go(func() {
		w.run(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if e := p.workers[w.uid]; e != nil && e.worker == w && e.finished {
			delete(p.workers, w.uid)
			p.k.lookAtStatic()
		}
		p.k.statuses.forget(w.uid)
	})
}

// remove takes in that a source has let go of a pod.
func (p *pods) remove(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[pod.UID]; e != nil {
		if pod.DeletionTimestamp != nil {
			e.worker.update(p.k.withoutUnknown(pod))
		}
		e.leaving = true
		e.worker.remove()
	}
}

// orphan makes a worker that ends what the runtime runs of a pod which no source has.
func (p *pods) orphan(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[pod.UID] != nil {
		return
	}
	w := p.k.newWorker(pod)
	w.mail.gone = true
	p.start(w, pod)
	if e := p.workers[pod.UID]; e != nil {
		e.leaving, e.unknown = true, true
	}
}

// leaving tells whether a pod of a name, which no source has any more, is still being ended.
func (p *pods) leaving(name types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.workers {
		if e.leaving && fullName(e.pod) == name {
			return true
		}
	}
	return false
}

// returns notes that a source has a pod again which is being ended: its containers are kept, so that the next ones count on from them.
func (p *pods) returns(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[uid]; e != nil && !e.returns {
		e.returns = true
		p.k.metrics.restarted.WithLabelValues(staticLabel(e.pod)).Inc()
	}
}

func (p *pods) isReturning(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[uid]
	return e != nil && e.returns
}

func fullName(pod *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// setMirror takes in the API's image of a static pod; nil when there is none any more.
func (p *pods) setMirror(name types.NamespacedName, mirror *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mirror == nil {
		delete(p.mirrors, name)
		p.k.lookAtStatic()
	} else {
		p.mirrors[name] = mirror
	}
	for _, e := range p.workers {
		if lifecycle.IsStatic(e.pod) && fullName(e.pod) == name && (mirror == nil || reflects(mirror, e.pod)) {
			e.worker.setMirror(mirror)
		}
	}
}

// reflects tells whether a mirror is that of this version of a static pod.
func reflects(mirror, static *corev1.Pod) bool {
	return mirror.Annotations[lifecycle.MirrorAnnotation] == static.Annotations[lifecycle.HashAnnotation]
}

// changed tells a pod's worker that the runtime has news.
func (p *pods) changed(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[uid]; e != nil {
		e.worker.touch()
	}
}

// refresh tells a pod's worker that an object which the pod names has changed.
func (p *pods) refresh(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[uid]; e != nil {
		e.worker.refresh()
	}
}

// nudgeAll makes all workers look at their pods, as something of the node has changed.
func (p *pods) nudgeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.workers {
		e.worker.post(func(m *mailbox) { m.stale = true })
	}
}

// retryResizes makes pods whose change of resources didn't fit try again: another one has left.
func (p *pods) retryResizes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.workers {
		if e.deferred {
			e.worker.post(func(m *mailbox) { m.room = true })
		}
	}
}

// kill asks for the end of a pod; false if it isn't known or ending already.
func (p *pods) kill(uid types.UID, r *killRequest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[uid]
	if e == nil || e.ending {
		return false
	}
	e.worker.kill(r)
	return true
}

func (p *pods) publish(w *worker, o *lifecycle.Observed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[w.uid]; e != nil {
		e.observed = o
		e.tell()
	}
}

func (p *pods) publishStatus(w *worker, pod *corev1.Pod, status corev1.PodStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[w.uid]; e != nil {
		e.pod, e.status, e.ending, e.stopped, e.cleaned = pod, status, w.ending, w.stopped, w.cleaned
		e.deferred = w.resize.desired != nil
		if g := e.granted; g != nil && g.Generation == pod.Generation && g.Generation != 0 {
			e.granted = pod // of the same specification: its older version needn't be kept beside it
		}
		e.tell()
	}
}

func (e *entry) tell() {
	for c := range e.waiters {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// finished notes that nothing is left of a pod.
func (p *pods) finished(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[w.uid]; e != nil {
		e.finished = true
		e.tell()
	}
}

func (p *pods) isFinished(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[w.uid]
	return e == nil || e.finished
}

// Snapshot is what is known of one pod.
type Snapshot struct {
	// Pod has the status that was made last. Read-only.
	Pod      *corev1.Pod
	Observed *lifecycle.Observed // nil before the runtime was asked
	// Ending tells that the pod is on its way out, Stopped that nothing of it runs any more, Told that the API knows how it has ended.
	Ending, Stopped, Told bool
}

func (e *entry) snapshot() Snapshot {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: e.pod.ObjectMeta, Spec: e.pod.Spec, Status: e.status}
	return Snapshot{
		Pod: pod, Observed: e.observed, Ending: e.ending, Stopped: e.stopped,
		Told: e.cleaned && lifecycle.Terminal(e.pod.Status.Phase) && !lifecycle.IsStatic(e.pod),
	}
}

// list returns all pods that the kubelet looks after.
func (p *pods) list() []Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Snapshot, 0, len(p.workers))
	for _, e := range p.workers {
		out = append(out, e.snapshot())
	}
	return out
}

// burstableCPU is what the burstable pods that haven't stopped request, in thousandths of a CPU. Every start and end of a pod asks.
func (p *pods) burstableCPU() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var milli int64
	for _, e := range p.workers {
		if !e.stopped && lifecycle.QOS(e.pod) == corev1.PodQOSBurstable {
			requests := resourcehelper.PodRequests(e.pod, resourcehelper.PodResourcesOptions{})
			milli += requests.Cpu().MilliValue()
		}
	}
	return milli
}

// find returns a pod by its name, or UID if that's not empty.
func (p *pods) find(namespace, name string, uid types.UID) (Snapshot, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, e := range p.workers {
		if e.pod.Namespace == namespace && e.pod.Name == name && (uid == "" || uid == id || mirrors(e.pod, p.mirrors[fullName(e.pod)], uid)) {
			return e.snapshot(), true
		}
	}
	return Snapshot{}, false
}

func mirrors(pod, mirror *corev1.Pod, uid types.UID) bool {
	return lifecycle.IsStatic(pod) && mirror != nil && mirror.UID == uid
}

// grantedPod returns a pod as it was granted last; nil if it wasn't.
func (p *pods) grantedPod(uid types.UID) *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[uid]; e != nil {
		return e.granted
	}
	return nil
}

// observed returns what the runtime last said of a pod; nil if that isn't known.
func (p *pods) observed(uid types.UID) *lifecycle.Observed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.workers[uid]; e != nil {
		return e.observed
	}
	return nil
}

// has tells whether a pod has a worker.
func (p *pods) has(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers[uid] != nil
}

// watch returns a channel that gets a token after every change of a pod, and a function that ends it. The channel is nil for a pod that isn't known.
func (p *pods) watch(uid types.UID) (<-chan struct{}, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[uid]
	if e == nil {
		return nil, func() {}
	}
	c := make(chan struct{}, 1)
	e.waiters[c] = true
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(e.waiters, c)
	}
}

// await waits until a pod is as far as reached tells, such as isStopped or isCleaned; why ctx ended, if that comes first.
func (p *pods) await(ctx context.Context, uid types.UID, reached func(types.UID) bool) error {
	changes, stop := p.watch(uid)
	defer stop()
	for !reached(uid) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
	return nil
}

// isStopped tells whether nothing of a pod runs any more.
func (p *pods) isStopped(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[uid]
	return e == nil || e.stopped || e.finished
}

// isCleaned tells whether a pod's containers and volumes are gone.
func (p *pods) isCleaned(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.workers[uid]
	return e == nil || e.cleaned || e.finished
}
