package backends

import (
	"hash/maphash"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

// Triggers tells since when what a controller is about to write of a Service has been so: the proxies count from there how long a change took
// to reach the network. It knows what pods were like when it was asked last, as numbers: a Service may have thousands.
type Triggers struct {
	seed maphash.Seed

	mu sync.Mutex
	of map[controller.Key]*seen
}

// seen is what a Service and its pods were like, in seconds since 1970, which is as exact as they tell it.
type seen struct {
	created int64
	pods    map[uint64]int64 // when readiness changed, by the hash of the pod's name
}

// NewTriggers returns Triggers that know of no Service.
func NewTriggers() *Triggers {
	return &Triggers{seed: maphash.MakeSeed(), of: map[controller.Key]*seen{}}
}

// Since returns when the first of the changes came that the Service or its pods have seen since the last call for it: it was created, or a pod's
// readiness changed. It is zero if none did. The first call tells the Service's creation, since what came before it is not known.
// It is called by one at a time for each Service, and for each look at it, so that a change isn't told later than it was looked at.
func (t *Triggers) Since(svc *corev1.Service, pods []*corev1.Pod) time.Time {
	state, known := t.state(controller.Key{Namespace: svc.Namespace, Name: svc.Name})
	first := int64(0)
	changed := func(at, was int64) {
		if at > was && (first == 0 || at < first) {
			first = at
		}
	}
	with := 0
	for _, pod := range pods {
		at, ok := readyChanged(pod)
		if !ok {
			continue
		}
		with++
		name := maphash.String(t.seed, pod.Name)
		if was, ok := state.pods[name]; !ok || was != at {
			state.pods[name] = at
			changed(at, was)
		}
	}
	if len(state.pods) > with {
		t.forgetPods(state, pods)
	}
	changed(svc.CreationTimestamp.Unix(), state.created)
	state.created = svc.CreationTimestamp.Unix()
	switch {
	case !known:
		return svc.CreationTimestamp.Time
	case first == 0:
		return time.Time{}
	}
	return time.Unix(first, 0)
}

func (t *Triggers) state(key controller.Key) (s *seen, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, known = t.of[key]
	if !known {
		s = &seen{pods: map[uint64]int64{}}
		t.of[key] = s
	}
	return s, known
}

// forgetPods keeps these pods alone.
func (t *Triggers) forgetPods(s *seen, pods []*corev1.Pod) {
	kept := make(map[uint64]int64, len(pods))
	for _, pod := range pods {
		if at, ok := readyChanged(pod); ok {
			kept[maphash.String(t.seed, pod.Name)] = at
		}
	}
	s.pods = kept
}

// readyChanged returns when a pod's readiness changed; false is that nobody has told of it.
func readyChanged(pod *corev1.Pod) (int64, bool) {
	ready := podcontrol.Condition(pod, corev1.PodReady)
	if ready == nil || ready.LastTransitionTime.IsZero() {
		return 0, false
	}
	return ready.LastTransitionTime.Unix(), true
}

// Forget is for a Service that is gone.
func (t *Triggers) Forget(key controller.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, key)
}

// Annotate writes since when the change has been that an object brings; a zero time takes what an earlier one wrote away.
func Annotate(annotations *map[string]string, since time.Time) {
	if since.IsZero() {
		delete(*annotations, corev1.EndpointsLastChangeTriggerTime)
		return
	}
	if *annotations == nil {
		*annotations = map[string]string{}
	}
	(*annotations)[corev1.EndpointsLastChangeTriggerTime] = since.UTC().Format(time.RFC3339Nano)
}
