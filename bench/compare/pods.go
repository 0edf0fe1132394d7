package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

const (
	podImage    = "clipper.dev/demo:v1"
	podSelector = "bench=pods"
	// idleTime is how long the pods' containers wait, and an argument by which their processes are known.
	idleTime = "1h0m7s"
	single   = 50  // pods that are started one by one
	crowd    = 100 // pods that are started at once
)

// benchPod is a pod that a client's manifest would make: with the token and the volumes that admission adds, and an image that is present.
func benchPod(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": "pods"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: podImage, ImagePullPolicy: corev1.PullNever, Args: args}}},
	}
}

// podWatch follows pods from the moment it was made. It outlives its connections: a server may cut a watch off at any time.
type podWatch struct{ events *watchtools.RetryWatcher }

func watchPods(ctx context.Context, c kubernetes.Interface, namespace, selector string) (*podWatch, error) {
	list, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	events, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return c.CoreV1().Pods(namespace).Watch(ctx, o)
		},
	})
	return &podWatch{events}, err
}

func (w *podWatch) stop() {
	w.events.Stop()
	<-w.events.Done()
}

// until returns when n pods have come to be as asked.
func (w *podWatch) until(ctx context.Context, n int, is func(watch.EventType, *corev1.Pod) (bool, error)) error {
	done := map[string]bool{}
	var last *corev1.Pod
	for len(done) < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods: %w; %s", len(done), n, context.Cause(ctx), state(last))
		case e, open := <-w.events.ResultChan():
			pod, ok := e.Object.(*corev1.Pod)
			if !open || !ok {
				return fmt.Errorf("the watch ended after %d of %d pods: %v", len(done), n, e.Object)
			}
			yes, err := is(e.Type, pod)
			if err != nil {
				return fmt.Errorf("%d of %d pods: %w", len(done), n, err)
			}
			last = pod
			if yes {
				done[pod.Name] = true
			}
		}
	}
	return nil
}

// state tells how far a pod has come, and what it waits for.
func state(p *corev1.Pod) string {
	if p == nil {
		return "no pod was seen"
	}
	text := fmt.Sprintf("pod %s is %s %s %s", p.Name, p.Status.Phase, p.Status.Reason, p.Status.Message)
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			text += ", " + c.Message
		}
	}
	return text
}

func running(_ watch.EventType, p *corev1.Pod) (bool, error) {
	if p.Status.Phase == corev1.PodFailed {
		return false, fmt.Errorf("pod %s failed: %s: %s", p.Name, p.Status.Reason, p.Status.Message)
	}
	return p.Status.Phase == corev1.PodRunning, nil
}

func bound(_ watch.EventType, p *corev1.Pod) (bool, error) { return p.Spec.NodeName != "", nil }

func gone(t watch.EventType, _ *corev1.Pod) (bool, error) { return t == watch.Deleted, nil }

// measurePod starts pods one after the other, each when the one before is gone.
func measurePod(ctx context.Context, _ options, s *side, r *results) error {
	c, err := newClient(s.config, true)
	if err != nil {
		return err
	}
	w, err := watchPods(ctx, c, namespace, podSelector)
	if err != nil {
		return err
	}
	defer w.stop()
	pods := c.CoreV1().Pods(namespace)
	var starts, ends []time.Duration
	for i := range single {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		name, began := fmt.Sprintf("bench-one-%d", i), time.Now()
		if _, err := pods.Create(ctx, benchPod(name, "sleep", idleTime), metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := w.until(ctx, 1, running); err != nil {
			return fmt.Errorf("pod %d does not run: %w", i, err)
		}
		starts, began = append(starts, time.Since(began)), time.Now()
		if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		if err := w.until(ctx, 1, gone); err != nil {
			return fmt.Errorf("pod %d does not go: %w", i, err)
		}
		ends = append(ends, time.Since(began))
	}
	r.add("create to Running, one pod, p50", "%.0f ms", 1e3*quantile(starts, 0.50).Seconds())
	r.add("create to Running, one pod, p99", "%.0f ms", 1e3*quantile(starts, 0.99).Seconds())
	r.add("delete to gone, one pod, p50", "%.0f ms", 1e3*quantile(ends, 0.50).Seconds())
	r.add("delete to gone, one pod, p99", "%.0f ms", 1e3*quantile(ends, 0.99).Seconds())
	return nil
}

func quantile(of []time.Duration, q float64) time.Duration {
	of = slices.Sorted(slices.Values(of))
	return of[min(len(of)-1, int(q*float64(len(of))))]
}

// measureHundred starts pods at once, looks at the machine's memory while they run, and deletes them.
func measureHundred(ctx context.Context, _ options, s *side, r *results) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	c, err := newClient(s.config, true)
	if err != nil {
		return err
	}
	before, err := settledMemory(ctx, s.overhead)
	if err != nil {
		return err
	}
	w, err := watchPods(ctx, c, namespace, podSelector)
	if err != nil {
		return err
	}
	defer w.stop()
	began := time.Now()
	var g errgroup.Group
	g.Go(func() error {
		return atOnce(writers, crowd, func(i int) error {
			_, err := c.CoreV1().Pods(namespace).Create(ctx, benchPod(fmt.Sprintf("bench-many-%d", i), "sleep", idleTime), metav1.CreateOptions{})
			return err
		})
	})
	err = w.until(ctx, crowd, running)
	took := time.Since(began)
	if createErr := g.Wait(); createErr != nil {
		return createErr
	}
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("%d pods at once, all Running", crowd), "%.2f s", took.Seconds())
	if err := memoryPerPod(ctx, s, before, r); err != nil {
		r.fail("memory-per-pod", err)
	}
	began = time.Now()
	if err := c.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: podSelector}); err != nil {
		return err
	}
	if err := w.until(ctx, crowd, gone); err != nil {
		return err
	}
	r.add(fmt.Sprintf("delete of %d pods, all gone", crowd), "%.2f s", time.Since(began).Seconds())
	return nil
}
