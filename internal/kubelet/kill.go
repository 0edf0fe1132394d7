package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/handlers"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// killInput is one container to stop.
type killInput struct {
	pod      *corev1.Pod
	observed *lifecycle.Observed
	kill     lifecycle.Kill
	override *int64 // seconds; nil is what the pod says
	order    *order
}

// killPod stops all containers, sidecars after what they serve, and then the sandbox.
func (w *worker) killPod(ctx context.Context, pod *corev1.Pod, o *lifecycle.Observed, override *int64) outcome {
	running := o.RunningContainers()
	order := newOrder(pod, running)
	errs := make([]error, len(running))
	var wg sync.WaitGroup
	for i, c := range running {
		wg.Go(func() {
			kill := lifecycle.Kill{ID: c.ID, Name: c.Name}
			errs[i] = w.killContainer(ctx, killInput{pod: pod, observed: o, kill: kill, override: override, order: order})
		})
	}
	wg.Wait()
	for i := range o.Sandboxes {
		s := &o.Sandboxes[i]
		if _, err := w.k.cri.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.ID}); err != nil && !cri.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("stop sandbox %s: %w", s.ID, err))
		}
	}
	err := errors.Join(errs...)
	if err != nil && ctx.Err() == nil {
		w.k.events.Eventf(criconfig.PodReference(pod), corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
	}
	return outcome{err: err}
}

// killContainer runs the pre-stop hook and stops the container, both within its grace period.
func (w *worker) killContainer(ctx context.Context, in killInput) error {
	spec := &corev1.Container{Name: in.kill.Name}
	if ref, ok := lifecycle.Find(in.pod, in.kill.Name); ok {
		spec = ref.Spec(in.pod)
	}
	grace := lifecycle.GracePeriod(in.pod, spec, in.kill.Reason)
	if in.override != nil {
		grace = *in.override
	}
	message := in.kill.Message
	if message == "" {
		message = "Stopping container " + spec.Name
	}
	w.k.events.Event(criconfig.ContainerReference(in.pod, spec.Name), corev1.EventTypeNormal, "Killing", message)
	begun := time.Now()
	if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && grace > 0 {
		defer w.preStop(ctx, in, spec, time.Duration(grace)*time.Second)()
	}
	if in.order != nil {
		in.order.wait(ctx, spec.Name, time.Duration(grace)*time.Second-time.Since(begun))
	}
	grace = max(grace-int64(time.Since(begun)/time.Second), lifecycle.MinimumGrace)
	_, err := w.k.cri.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: in.kill.ID, Timeout: grace})
	if err != nil && !cri.IsNotFound(err) {
		return fmt.Errorf("stop container %s: %w", spec.Name, err)
	}
	if in.order != nil {
		in.order.ended(spec.Name)
	}
	return nil
}

// preStop starts the hook and waits for it as long as the grace period allows. A hook that takes longer goes on until the container is stopped: the
// caller calls end then.
func (w *worker) preStop(ctx context.Context, in killInput, spec *corev1.Container, grace time.Duration) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	target := &handlers.Target{Pod: in.pod, Container: spec, ContainerID: in.kill.ID}
	ips := w.k.hostIPs
	if !in.pod.Spec.HostNetwork {
		ips = lifecycle.SortIPs(in.observed.IPs(), w.k.hostIPs)
	}
	if len(ips) > 0 {
		target.IP = ips[0]
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := w.k.metrics.hooks.Hook(ctx, w.k, target, spec.Lifecycle.PreStop)
		if err != nil && ctx.Err() == nil {
			// The hook's output stays out of the event: it may hold secrets.
			w.k.events.Event(criconfig.ContainerReference(in.pod, spec.Name), corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
			w.logger.Warn("pre-stop hook failed", "container", spec.Name, "error", err)
		}
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {
		cancel()
		<-done
	}
}

// order lets sidecars wait for the containers that they outlive.
type order struct {
	gone map[string]chan struct{}
	once map[string]*sync.Once
	need map[string][]string
}

// newOrder returns nil for a pod without sidecars.
func newOrder(pod *corev1.Pod, running []*lifecycle.Container) *order {
	if !lifecycle.HasSidecar(pod) {
		return nil
	}
	o := &order{gone: map[string]chan struct{}{}, once: map[string]*sync.Once{}, need: map[string][]string{}}
	var names []string
	for _, c := range running {
		names = append(names, c.Name)
		o.gone[c.Name], o.once[c.Name] = make(chan struct{}), new(sync.Once)
	}
	for _, name := range names {
		o.need[name] = lifecycle.StopsAfter(pod, name, names)
	}
	return o
}

func (o *order) ended(name string) {
	o.once[name].Do(func() { close(o.gone[name]) })
}

// wait returns when it is the container's turn, or its time is over.
func (o *order) wait(ctx context.Context, name string, limit time.Duration) {
	timer := time.NewTimer(max(limit, 0))
	defer timer.Stop()
	for _, other := range o.need[name] {
		select {
		case <-o.gone[other]:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// clean gives back what the kubelet holds for a pod of which nothing runs any more. What its status is made of stays until it is purged: after a kill
// before the status is written, the next process tells it anew.
func (w *worker) clean(ctx context.Context, pod *corev1.Pod) outcome {
	w.probes.Stop()
	if err := w.k.dra.Unprepare(ctx, pod.UID); err != nil {
		return outcome{err: err}
	}
	if err := w.k.volumes.Unmount(ctx, pod.UID); err != nil {
		return outcome{err: err}
	}
	if err := w.k.tree.RemovePod(pod.UID); err != nil {
		return outcome{err: err}
	}
	if err := w.k.updateQOS(); err != nil {
		return outcome{err: err}
	}
	w.k.resources.Forget(pod.UID)
	w.k.objects.Forget(pod.UID)
	w.k.users.release(pod.UID)
	w.k.tokens.forget(pod.UID)
	w.k.images.ForgetPod(pod)
	w.k.metrics.forgetPod(pod)
	return outcome{}
}

// purge removes what the runtime keeps of a pod that its source has let go of.
func (w *worker) purge(ctx context.Context, pod *corev1.Pod, o *lifecycle.Observed) outcome {
	if w.k.pods.isReturning(w.uid) {
		return outcome{err: w.k.volumes.Remove(pod.UID)}
	}
	var errs []error
	for i := range o.Containers {
		errs = append(errs, w.k.cri.Remove(ctx, o.Containers[i].ID))
	}
	for i := range o.Sandboxes {
		_, err := w.k.cri.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: o.Sandboxes[i].ID})
		if err != nil && !cri.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove sandbox %s: %w", o.Sandboxes[i].ID, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return outcome{err: err}
	}
	logs := w.k.translate.PodLogDir(pod)
	w.k.logLinks.dropUnder(logs) // first: who is killed in between finds the logs again, but nothing leads to the links of logs that are gone
	if err := os.RemoveAll(logs); err != nil {
		return outcome{err: fmt.Errorf("remove the pod's logs: %w", err)}
	}
	return outcome{err: w.k.volumes.Remove(pod.UID)}
}

// removeContainer removes a dead container and its logs.
func (k *Kubelet) removeContainer(ctx context.Context, c *lifecycle.Container) error {
	if err := k.cri.Remove(ctx, c.ID); err != nil {
		return err
	}
	k.logLinks.drop(c.ID)
	if c.LogPath == "" || !filepath.IsAbs(c.LogPath) {
		return nil
	}
	files, err := filepath.Glob(c.LogPath + "*")
	if err != nil {
		return fmt.Errorf("remove logs of container %s: %w", c.Name, err)
	}
	for _, f := range slices.Compact(files) {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove logs of container %s: %w", c.Name, err)
		}
	}
	return nil
}
