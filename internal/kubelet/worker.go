package kubelet

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/probes"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// worker looks after one pod from the moment that the kubelet learns of it until nothing of it is left. All fields below the mailbox belong to its loop.
//
// The pod's stages: admitted or refused; synced, as long as it's wanted; ending, once it is deleted, has finished, or got a verdict: nothing is started any
// more and what runs is stopped; stopped; cleaned: volumes and control groups are gone, the final status is known and a deleted pod leaves the API;
// finally gone from its source: what the runtime still keeps of it is removed.
type worker struct {
	k      *Kubelet
	uid    types.UID
	logger *slog.Logger
	wake   chan struct{}
	done   chan struct{} // closed when the loop has ended

	mu   sync.Mutex
	mail mailbox

	pod      *corev1.Pod
	mirror   *corev1.Pod // the API's image of a static pod
	observed *lifecycle.Observed
	admitted bool
	ending   bool
	grace    int64 // seconds that containers get at the end; 0 is not decided
	verdict  *lifecycle.PodVerdict
	disrupt  *corev1.PodCondition
	refused  bool // it never ran here
	stopped  bool
	cleaned  bool
	gone     bool // the source has let go of the pod

	status  corev1.PodStatus // as made last
	waiting map[string]waitingUntil
	crashes map[string]*lifecycle.Crash // by crashKey
	mounted map[string]volumes.Mounted
	probes  *probes.Set

	resize   resizing
	op       *operation
	stale    bool      // volumes have to be brought up to date
	now      time.Time // of the current look
	since    time.Time // when the kubelet learned of the pod
	failures int       // operations in a row that failed
	retryAt  time.Time

	pulling   atomic.Int64 // nanoseconds that went into pulling images
	startSeen bool         // the API has told of the pod's start, or it was before the kubelet's time
}

// mailbox is what others have left for a worker.
type mailbox struct {
	pod      *corev1.Pod
	mirror   *corev1.Pod
	noMirror bool
	gone     bool
	dirty    bool // the runtime has news
	stale    bool // an object that the pod names has changed
	room     bool // a pod has left the node
	kill     *killRequest
	hooking  map[string]bool // containers whose post-start hook runs
}

// killRequest asks for the end of a pod.
type killRequest struct {
	verdict lifecycle.PodVerdict
	grace   *int64
	disrupt *corev1.PodCondition
}

// waitingUntil is why a container doesn't run, and when to try again; the zero time is with the next change.
type waitingUntil struct {
	lifecycle.Waiting
	until time.Time
	spec  string // by which what the container is now is recognized; "" is whatever it is
}

func (k *Kubelet) newWorker(pod *corev1.Pod) *worker {
	w := &worker{
		k: k, uid: pod.UID,
		logger:  k.logger.With("pod", pod.Namespace+"/"+pod.Name, "uid", pod.UID),
		wake:    make(chan struct{}, 1),
		since:   time.Now(),
		done:    make(chan struct{}),
		waiting: map[string]waitingUntil{},
		crashes: map[string]*lifecycle.Crash{},
		resize:  resizing{applied: map[string]string{}},
	}
	w.mail.pod, w.mail.dirty = pod, true
	w.mail.hooking = map[string]bool{}
	return w
}

// post changes the mailbox and wakes the worker.
func (w *worker) post(change func(*mailbox)) {
	w.mu.Lock()
	change(&w.mail)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) update(pod *corev1.Pod) { w.post(func(m *mailbox) { m.pod = pod }) }
func (w *worker) setMirror(pod *corev1.Pod) {
	w.post(func(m *mailbox) { m.mirror, m.noMirror = pod, pod == nil })
}
func (w *worker) remove()             { w.post(func(m *mailbox) { m.gone = true }) }
func (w *worker) touch()              { w.post(func(m *mailbox) { m.dirty = true }) }
func (w *worker) refresh()            { w.post(func(m *mailbox) { m.stale = true }) }
func (w *worker) nudge()              { w.post(func(*mailbox) {}) }
func (w *worker) kill(r *killRequest) { w.post(func(m *mailbox) { m.kill = r }) }

// hooking notes that a container's post-start hook has begun or ended: until it has ended the container doesn't count as running.
func (w *worker) hooking(name string, on bool) {
	w.post(func(m *mailbox) {
		m.dirty = true
		if on {
			m.hooking[name] = true
			return
		}
		delete(m.hooking, name)
	})
}

// run is the worker's loop. It ends when nothing of the pod is left, or with ctx; containers go on running then.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	w.k.metrics.start.worker.Observe(time.Since(w.since).Seconds())
	w.probes = probes.NewSet(ctx, probes.Config{
		Runner: w.k, Events: w.k.events, Changed: w.nudge, Logger: w.logger, Count: w.k.metrics.countProbe,
	})
	defer w.probes.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if w.op != nil {
				w.op.cancel()
				<-w.op.done
			}
			return
		case <-w.wake:
		case <-timer.C:
		case <-w.op.ended():
			w.finishOperation()
		}
		next, over := w.step(ctx)
		if over {
			return
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// operation is one piece of work beside the loop.
type operation struct {
	kind     operationKind
	grace    int64
	replaces bool // stops running containers to start them again
	creates  bool // makes the pod's first sandbox
	began    time.Time
	cancel   context.CancelFunc
	done     chan struct{}
	result   outcome
}

type operationKind int

const (
	opSync operationKind = iota
	opRefresh
	opKill
	opClean
	opPurge
)

// outcome is what an operation leaves behind.
type outcome struct {
	err      error
	retryAt  time.Time                // when trying again can help, if the error says so
	waiting  map[string]*waitingUntil // by container; nil clears
	mounted  map[string]volumes.Mounted
	crashes  map[string]*lifecycle.Crash
	applied  map[string]string            // grants in force, by container ID
	resize   error                        // why a grant isn't
	bound    cgroups.Limits               // of the pod's group, if they were set
	enforced *corev1.ResourceRequirements // what they came from
}

// ended is closed when the operation is over; without an operation it never is.
func (o *operation) ended() <-chan struct{} {
	if o == nil {
		return nil
	}
	return o.done
}

// begin starts an operation. The loop must not have another.
func (w *worker) begin(ctx context.Context, kind operationKind, grace int64, work func(context.Context) outcome) {
	ctx, cancel := context.WithCancel(ctx)
	op := &operation{kind: kind, grace: grace, began: time.Now(), cancel: cancel, done: make(chan struct{})}
	w.op = op
	go func() {
		defer close(op.done)
		defer cancel()
		op.result = work(ctx)
	}()
}

const (
	firstRetry   = 500 * time.Millisecond
	longestRetry = 30 * time.Second
)

// finishOperation takes in what an operation has left.
func (w *worker) finishOperation() {
	op := w.op
	w.op = nil
	w.k.metrics.countOperation(op)
	r := op.result
	for name, why := range r.waiting {
		if why == nil {
			delete(w.waiting, name)
			continue
		}
		w.waiting[name] = *why
	}
	for name, c := range r.crashes {
		w.crashes[name] = c
	}
	if r.mounted != nil {
		w.mounted = r.mounted
	}
	for id, grant := range r.applied {
		w.resize.applied[id] = grant
	}
	if r.bound != (cgroups.Limits{}) {
		w.resize.bound, w.resize.enforced = r.bound, r.enforced
	}
	if r.resize != nil {
		w.resizeFailed(r.resize.Error())
	}
	w.post(func(m *mailbox) { m.dirty = true })
	if r.err == nil {
		w.failures, w.retryAt = 0, time.Time{}
		switch op.kind {
		case opClean:
			w.cleaned = true
			w.k.pods.retryResizes()
		case opPurge:
			w.k.pods.finished(w)
		}
		return
	}
	wait := min(firstRetry<<min(w.failures, 10), longestRetry)
	w.failures++
	w.retryAt = time.Now().Add(wait)
	if !r.retryAt.IsZero() {
		w.retryAt = r.retryAt
	}
	w.logger.Debug("pod operation failed", "error", r.err, "retry", wait)
}
