package horizontalpodautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// value is one pod's value of a metric, in thousandths, at the end of a window of time.
type value struct {
	milli  int64
	at     time.Time
	window time.Duration
}

// tolerance is how far a ratio may be from 1 without anything being scaled.
type tolerance struct{ down, up float64 }

func toleranceOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerance {
	t := tolerance{defaultTolerance, defaultTolerance}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t tolerance) accepts(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// calculation is what a number of replicas is computed from when each pod has a value.
type calculation struct {
	pods      []*corev1.Pod
	current   int32
	resource  corev1.ResourceName // "" for a metric that is no resource
	tolerance tolerance
	now       time.Time
}

// measure turns values into a ratio to what they shall be on average, with that average.
type measure func(map[string]int64) (ratio float64, err error)

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")
	errUnmatched = errors.New("no metrics returned matched known pods")
)

// byValue computes how many replicas make the values the target on average. used is what they are.
func (c calculation) byValue(values map[string]value, target int64) (replicas int32, used int64, err error) {
	if len(c.pods) == 0 {
		return 0, 0, errNoPods
	}
	g := c.group(values)
	if len(g.values) == 0 {
		return 0, 0, errNoMetrics
	}
	average := func(values map[string]int64) int64 {
		total := int64(0)
		for _, v := range values {
			total += v
		}
		return total / int64(len(values))
	}
	used = average(g.values)
	ratio := func(values map[string]int64) (float64, error) { return float64(average(values)) / float64(target), nil }
	replicas, err = c.settle(g, ratio, func(string) int64 { return target })
	return replicas, used, err
}

// byUtilization computes how many replicas make the values the target's percentage of what was requested. percent and used are what they are.
func (c calculation) byUtilization(values map[string]value, container string, target int32) (replicas, percent int32, used int64, err error) {
	if len(c.pods) == 0 {
		return 0, 0, 0, errNoPods
	}
	g := c.group(values)
	if len(g.values) == 0 {
		return 0, 0, 0, errNoMetrics
	}
	requests, err := c.requests(container)
	if err != nil {
		return 0, 0, 0, err
	}
	if percent, used, err = utilization(g.values, requests); err != nil {
		return 0, 0, 0, err
	}
	ratio := func(values map[string]int64) (float64, error) {
		now, _, err := utilization(values, requests)
		return float64(now) / float64(target), err
	}
	// A pod that isn't known counts as using all that it has requested, or what it shall use at most if that is more.
	replicas, err = c.settle(g, ratio, func(pod string) int64 { return requests[pod] * int64(max(100, target)) / 100 })
	return replicas, percent, used, err
}

// utilization is the percentage of the requests that is used, and the average use.
func utilization(values, requests map[string]int64) (percent int32, used int64, err error) {
	var total, requested, n int64
	for pod, v := range values {
		if request, ok := requests[pod]; ok {
			total, requested, n = total+v, requested+request, n+1
		}
	}
	if requested == 0 {
		return 0, 0, errUnmatched
	}
	return int32(total * 100 / requested), total / n, nil
}

// settle computes the replicas from a ratio. Where pods are not ready or not known, these are first taken to be what speaks against scaling:
// on the way up they use nothing, on the way down those that are not known use as much as fully tells.
func (c calculation) settle(g groups, ratio measure, full func(pod string) int64) (int32, error) {
	first, err := ratio(g.values)
	if err != nil {
		return 0, err
	}
	upDespiteUnready := len(g.unready) > 0 && first > 1
	if !upDespiteUnready && len(g.missing) == 0 {
		if c.tolerance.accepts(first) {
			return c.current, nil
		}
		return int32(math.Ceil(first * float64(g.ready))), nil
	}
	for _, pod := range g.missing {
		switch {
		case first < 1:
			g.values[pod] = full(pod)
		case first > 1:
			g.values[pod] = 0
		}
	}
	if upDespiteUnready {
		for _, pod := range g.unready {
			g.values[pod] = 0
		}
	}
	second, err := ratio(g.values)
	if err != nil {
		return 0, err
	}
	turned := first < 1 && second > 1 || first > 1 && second < 1
	if c.tolerance.accepts(second) || turned {
		return c.current, nil
	}
	replicas := int32(math.Ceil(second * float64(len(g.values))))
	if second < 1 && replicas > c.current || second > 1 && replicas < c.current {
		return c.current, nil // more or fewer pods are known than there shall be
	}
	return replicas, nil
}

// groups are the pods by what is known of them.
type groups struct {
	ready            int
	unready, missing []string
	values           map[string]int64 // of pods that count
}

// group sorts the pods. Those that end or have failed don't count at all.
func (c calculation) group(values map[string]value) groups {
	g := groups{values: make(map[string]int64, len(values))}
	for pod, v := range values {
		g.values[pod] = v.milli
	}
	for _, pod := range c.pods {
		v, known := values[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(g.values, pod.Name)
		case pod.Status.Phase == corev1.PodPending, known && c.resource == corev1.ResourceCPU && c.warmingUp(pod, &v):
			delete(g.values, pod.Name)
			g.unready = append(g.unready, pod.Name)
		case !known:
			g.missing = append(g.missing, pod.Name)
		default:
			g.ready++
		}
	}
	return g
}

// warmingUp tells whether the CPU that a pod uses says nothing of its load: while it starts, what it used before it was ready; later, while it has never been ready.
func (c calculation) warmingUp(pod *corev1.Pod, v *value) bool {
	ready := podcontrol.Condition(pod, corev1.PodReady)
	if ready == nil || pod.Status.StartTime == nil {
		return true
	}
	since, changed := pod.Status.StartTime.Time, ready.LastTransitionTime.Time
	if since.Add(cpuInitialization).After(c.now) {
		return ready.Status == corev1.ConditionFalse || v.at.Before(changed.Add(v.window))
	}
	return ready.Status == corev1.ConditionFalse && since.Add(initialReadiness).After(changed)
}

// requests is what the pods, or their containers of that name, have requested.
func (c calculation) requests(container string) (map[string]int64, error) {
	out := make(map[string]int64, len(c.pods))
	for _, pod := range c.pods {
		var err error
		if container == "" && resourcehelper.IsPodLevelRequestsSet(pod) {
			q, ok := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[c.resource]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", c.resource, pod.Name)
			}
			out[pod.Name] = q.MilliValue()
			continue
		}
		if out[pod.Name], err = requested(pod, container, c.resource); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// requested sums the requests of a pod's regular containers and sidecars, or takes that of one of them.
func requested(pod *corev1.Pod, container string, name corev1.ResourceName) (int64, error) {
	containers := append([]corev1.Container{}, pod.Spec.Containers...)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	total, found := int64(0), container == ""
	for i := range containers {
		c := &containers[i]
		if container != "" && container != c.Name {
			continue
		}
		q, ok := c.Resources.Requests[name]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, pod.Name)
		}
		total, found = total+q.MilliValue(), true
	}
	if !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return total, nil
}

// ratioReplicas scales the pods that are ready by a ratio. From none, the ratio itself says how many.
func ratioReplicas(current int32, ratio float64, t tolerance, pods []*corev1.Pod) (int32, error) {
	switch {
	case current == 0:
		return int32(math.Ceil(ratio)), nil
	case t.accepts(ratio):
		return current, nil
	case len(pods) == 0:
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning && podcontrol.Ready(pod) {
			ready++
		}
	}
	return int32(math.Min(math.Ceil(ratio*float64(ready)), math.MaxInt32)), nil
}

// perPodReplicas shares a value among as many pods as make it the target for each. each is what every pod has of it now.
func perPodReplicas(pods int32, used, target int64, t tolerance) (replicas int32, each int64) {
	replicas = pods
	if !t.accepts(float64(used) / (float64(target) * float64(pods))) {
		replicas = int32(math.Min(math.Ceil(float64(used)/float64(target)), math.MaxInt32))
	}
	if used == math.MaxInt64 {
		return replicas, used
	}
	return replicas, int64(math.Ceil(float64(used) / float64(pods)))
}

// sum adds values up, as far as numbers go.
func sum(values []int64) int64 {
	total := int64(0)
	for _, v := range values {
		if v > 0 && total > math.MaxInt64-v {
			return math.MaxInt64
		}
		total += v
	}
	return total
}
