package kubelet

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

const (
	// parallelStatuses bounds the writes at a time.
	parallelStatuses = 16
	statusRetry      = time.Second
	statusConflicts  = 5
	// settling is how long a status is kept back that tells only that a pod is being prepared: most pods run before it is over.
	settling = 500 * time.Millisecond
	// replacing is how long a status is kept back while a container is stopped to be started again: as in Kubernetes, that shows once it is done, which is
	// always sooner. Told in between, an end with code 0 would be final to the API where only failures are restarted.
	replacing = 24 * time.Hour
)

// statuses writes pod statuses to the API. For each pod at most one write is under way and at most one waits, the latest: what came in between is
// never written. So a pod that starts at once costs one write.
type statuses struct {
	ctx    context.Context
	client client.Client
	logger *slog.Logger
	slots  chan struct{}
	took   prometheus.Observer // from a change to its being written
	wg     sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*reported
}

// reported is what is known of one pod's status in the API, by the UID of the object there (a mirror's for a static pod).
type reported struct {
	base    *corev1.Pod // as last seen or written
	next    *corev1.PodStatus
	remove  bool // delete the object once next is written
	writing bool
	gone    bool          // the API has let go of it
	since   time.Time     // when the first change came that isn't written
	due     time.Time     // when next is to be written if nothing more telling comes
	urgent  chan struct{} // has a token when there is something to be written at once
}

func newStatuses(ctx context.Context, c client.Client, took prometheus.Observer, logger *slog.Logger) *statuses {
	return &statuses{ctx: ctx, client: c, took: took, logger: logger, slots: make(chan struct{}, parallelStatuses), pods: map[types.UID]*reported{}}
}

// wait waits for writes that are under way; the context has to end first.
func (s *statuses) wait() { s.wg.Wait() }

// set reports a status of the API's object, which can be kept back for a while if a more telling one may follow; remove deletes the object afterwards.
func (s *statuses) set(object *corev1.Pod, status corev1.PodStatus, keep time.Duration, remove bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.pods[object.UID]
	if r == nil {
		r = &reported{base: object, urgent: make(chan struct{}, 1)}
		s.pods[object.UID] = r
	}
	if r.gone || s.ctx.Err() != nil {
		return
	}
	if !newer(r.base, object) { // what was written comes back as an object that all share
		r.base = object
	}
	r.remove = r.remove || remove
	r.schedule(&status, keep)
	if !r.writing {
		r.writing = true
		s.wg.Go(func() { s.drain(object.UID, r) })
	}
}

// schedule replaces what waits to be written.
func (r *reported) schedule(status *corev1.PodStatus, keep time.Duration) {
	kept := r.next != nil && !r.due.IsZero()
	urgent := r.next != nil && r.due.IsZero()
	if r.since.IsZero() {
		r.since = time.Now()
	}
	r.next = status
	if !r.remove && !urgent && keep > 0 {
		if !kept {
			r.due = time.Now().Add(keep)
		}
		return
	}
	r.due = time.Time{}
	select {
	case r.urgent <- struct{}{}:
	default:
	}
}

// preparing tells whether a status says no more than that a pod's containers are being made.
func preparing(status *corev1.PodStatus) bool {
	if status.Phase != corev1.PodPending {
		return false
	}
	telling := func(c corev1.ContainerStatus) bool {
		waiting := c.State.Waiting
		return waiting == nil || waiting.Reason != lifecycle.ReasonCreating && waiting.Reason != lifecycle.ReasonInitializing
	}
	return !slices.ContainsFunc(status.InitContainerStatuses, telling) && !slices.ContainsFunc(status.ContainerStatuses, telling)
}

// settle waits until what is kept back is due, or something urgent has come.
func (s *statuses) settle(r *reported, due time.Time) {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.urgent:
	case <-s.ctx.Done():
	}
}

// forget drops what is known of an object.
func (s *statuses) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.pods[uid]; r != nil {
		r.gone = true
		delete(s.pods, uid)
	}
}

func newer(a, b *corev1.Pod) bool { return number(a.ResourceVersion) > number(b.ResourceVersion) }

func number(version string) int64 {
	var v int64
	for _, c := range version {
		v = v*10 + int64(c-'0')
	}
	return v
}

// drain writes until nothing waits.
func (s *statuses) drain(uid types.UID, r *reported) {
	for {
		s.mu.Lock()
		next, base, remove, since := r.next, r.base, r.remove, r.since
		if next == nil || r.gone {
			r.writing = false
			s.mu.Unlock()
			return
		}
		if due := r.due; time.Now().Before(due) && s.ctx.Err() == nil {
			s.mu.Unlock()
			s.settle(r, due)
			continue
		}
		r.next, r.due, r.since = nil, time.Time{}, time.Time{}
		s.mu.Unlock()

		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		written, err := s.write(base, next)
		if err == nil && written != nil && written != base {
			s.took.Observe(time.Since(since).Seconds())
		}
		if err == nil && remove && written != nil {
			err = s.delete(written)
		}
		<-s.slots

		s.mu.Lock()
		if written != nil && newer(written, r.base) {
			r.base = written
		}
		if err != nil {
			r.since = since
			if r.next == nil {
				r.next = next // unless there's a newer one to try
			}
		}
		s.mu.Unlock()
		if err != nil && !s.pause(err, base) {
			return
		}
	}
}

// pause waits before a write is repeated; false when the kubelet ends.
func (s *statuses) pause(err error, pod *corev1.Pod) bool {
	if s.ctx.Err() == nil {
		s.logger.Warn("pod status not written", "pod", pod.Name, "namespace", pod.Namespace, "error", err)
	}
	timer := time.NewTimer(statusRetry)
	defer timer.Stop()
	select {
	case <-s.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// write stores a status on the basis of the object as last known; nil without an error means that the object is gone.
func (s *statuses) write(base *corev1.Pod, status *corev1.PodStatus) (*corev1.Pod, error) {
	uid := base.UID
	for range statusConflicts {
		merged := merge(&base.Status, status)
		if apiequality.Semantic.DeepEqual(&base.Status, &merged) {
			return base, nil
		}
		next := base.DeepCopy()
		next.Status = merged
		written, err := client.Pods.UpdateStatus(s.ctx, s.client, next)
		switch {
		case err == nil:
			return written, nil
		case apierrors.IsNotFound(err):
			return nil, nil
		case !apierrors.IsConflict(err):
			return nil, err
		}
		base, err = client.Pods.Get(s.ctx, s.client, base.Namespace, base.Name)
		if apierrors.IsNotFound(err) || err == nil && base.UID != uid {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, apierrors.NewConflict(client.Pods.GVR.GroupResource(), base.Name, nil)
}

// merge puts the kubelet's status over the API's, keeping conditions that others own and a phase that is final.
func merge(have, own *corev1.PodStatus) corev1.PodStatus {
	out := *own.DeepCopy()
	out.Conditions = nil
	for _, c := range have.Conditions {
		if !lifecycle.OwnedCondition(c.Type) {
			out.Conditions = append(out.Conditions, c)
		}
	}
	for _, c := range own.Conditions {
		switch {
		case lifecycle.OwnedCondition(c.Type):
			out.Conditions = append(out.Conditions, c)
		case c.Type == corev1.DisruptionTarget && lifecycle.Terminal(own.Phase):
			out.Conditions = replace(out.Conditions, c)
		}
	}
	if lifecycle.Terminal(have.Phase) && out.Phase != have.Phase {
		out.Phase, out.Reason, out.Message = have.Phase, have.Reason, have.Message
	}
	return out
}

func replace(list []corev1.PodCondition, c corev1.PodCondition) []corev1.PodCondition {
	for i := range list {
		if list[i].Type == c.Type {
			list[i] = c
			return list
		}
	}
	return append(list, c)
}

// delete removes the object from the API for good, if it's still the same.
func (s *statuses) delete(pod *corev1.Pod) error {
	zero := int64(0)
	err := client.Pods.Delete(s.ctx, s.client, pod.Namespace, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero,
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
