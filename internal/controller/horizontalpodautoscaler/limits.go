package horizontalpodautoscaler

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// history is what an autoscaler has recommended and done lately. It belongs to the autoscaler's one reconcile at a time.
type history struct {
	recommended []event
	up, down    []event // changes, as positive numbers
}

type event struct {
	at       time.Time
	replicas int32
}

// limits bound a recommendation.
type limits struct {
	behavior    *autoscalingv2.HorizontalPodAutoscalerBehavior
	least, most int32
	current     int32
}

// verdict is what a condition says.
type verdict struct {
	status          corev1.ConditionStatus
	reason, message string
}

// outcome is what the limits have done.
type outcome struct{ able, limited verdict }

// begin takes the replicas that an autoscaler finds as its first recommendation, so that its first act isn't to shrink.
func (h *history) begin(current int32) {
	if h.recommended == nil {
		h.recommended = []event{{time.Now(), current}}
	}
}

// scaled notes a change, for the policies.
func (h *history) scaled(b *autoscalingv2.HorizontalPodAutoscalerBehavior, from, to int32) {
	switch {
	case b == nil:
	case to > from:
		h.up = append(since(h.up, longestPeriod(b.ScaleUp)), event{time.Now(), to - from})
	default:
		h.down = append(since(h.down, longestPeriod(b.ScaleDown)), event{time.Now(), from - to})
	}
}

// since drops the events that are older than a time.
func since(events []event, age time.Duration) []event {
	var out []event
	for _, e := range events {
		if time.Since(e.at) <= age {
			out = append(out, e)
		}
	}
	return out
}

func longestPeriod(rules *autoscalingv2.HPAScalingRules) time.Duration {
	var longest int32
	for _, p := range rules.Policies {
		longest = max(longest, p.PeriodSeconds)
	}
	return time.Duration(longest) * time.Second
}

// limit steadies a recommendation by those of the past, and bounds it.
func (h *history) limit(l limits, wanted int32) (int32, outcome) {
	if l.behavior == nil {
		steady := h.steadyDown(wanted)
		out := outcome{able: ready}
		if steady != wanted {
			out.able = downStabilized
		}
		replicas, v := l.simple(steady)
		out.limited = v.as(replicas == steady)
		return replicas, out
	}
	steady := h.steady(l, wanted)
	out := outcome{able: ready}
	switch {
	case steady == wanted:
	case wanted >= l.current:
		out.able = upStabilized
	default:
		out.able = downStabilized
	}
	replicas, v := h.paced(l, steady)
	out.limited = v.as(replicas == steady)
	return replicas, out
}

// What conditions say of a recommendation.
var (
	ready          = verdict{reason: "ReadyForNewScale", message: "recommended size matches current size"}
	upStabilized   = verdict{reason: "ScaleUpStabilized", message: "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	downStabilized = verdict{reason: "ScaleDownStabilized", message: "recent recommendations were higher than current one, applying the highest recent recommendation"}

	within    = verdict{reason: "DesiredWithinRange", message: "the desired count is within the acceptable range"}
	tooFast   = verdict{reason: "ScaleUpLimit", message: "the desired replica count is increasing faster than the maximum scale rate"}
	tooMany   = verdict{reason: "TooManyReplicas", message: "the desired replica count is more than the maximum replica count"}
	tooFastly = verdict{reason: "ScaleDownLimit", message: "the desired replica count is decreasing faster than the maximum scale rate"}
	tooFew    = verdict{reason: "TooFewReplicas", message: "the desired replica count is less than the minimum replica count"}
)

func (v verdict) as(unlimited bool) verdict {
	v.status = corev1.ConditionTrue
	if unlimited {
		v.status = corev1.ConditionFalse
	}
	return v
}

// steadyDown returns the largest recommendation of the downscale window.
func (h *history) steadyDown(wanted int32) int32 {
	h.recommended = since(h.recommended, downscaleWindow)
	steady := wanted
	for _, e := range h.recommended {
		steady = max(steady, e.replicas)
	}
	h.recommended = append(h.recommended, event{time.Now(), wanted})
	return steady
}

// steady keeps the present size where recommendations of the windows lie on both sides of it.
func (h *history) steady(l limits, wanted int32) int32 {
	upWindow, downWindow := windowOf(l.behavior.ScaleUp, 0), windowOf(l.behavior.ScaleDown, downscaleWindow)
	lowest, highest := wanted, wanted
	for _, e := range h.recommended {
		age := time.Since(e.at)
		if age < upWindow {
			lowest = min(lowest, e.replicas)
		}
		if age < downWindow {
			highest = max(highest, e.replicas)
		}
	}
	h.recommended = append(since(h.recommended, max(upWindow, downWindow)), event{time.Now(), wanted})
	return min(max(l.current, lowest), highest)
}

func windowOf(rules *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if rules.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
}

// simple bounds a recommendation without a behavior: up by twice the present size or to four.
func (l limits) simple(wanted int32) (int32, verdict) {
	most, over := l.most, tooMany
	if rate := int32(math.Max(2*float64(l.current), 4)); most > rate {
		most, over = rate, tooFast
	}
	switch {
	case wanted < l.least:
		return l.least, tooFew
	case wanted > most:
		return most, over
	}
	return wanted, within
}

// paced bounds a recommendation by the policies of the behavior.
func (h *history) paced(l limits, wanted int32) (int32, verdict) {
	switch {
	case wanted > l.current:
		most, over := l.most, tooMany
		if rate := max(h.upTo(l), l.current); most > rate {
			most, over = rate, tooFast
		}
		if wanted > most {
			return most, over
		}
	case wanted < l.current:
		least, under := l.least, tooFew
		if rate := min(h.downTo(l), l.current); least < rate {
			least, under = rate, tooFastly
		}
		if wanted < least {
			return least, under
		}
	}
	return wanted, within
}

// upTo is the largest size that the policies allow now.
func (h *history) upTo(l limits) int32 {
	rules := l.behavior.ScaleUp
	if policyOf(rules) == autoscalingv2.DisabledPolicySelect {
		return l.current
	}
	return choose(rules, policyOf(rules) == autoscalingv2.MinChangePolicySelect, func(p autoscalingv2.HPAScalingPolicy) int32 {
		start := h.sizeBefore(l.current, p)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + p.Value
		}
		return int32(math.Ceil(float64(start) * (1 + float64(p.Value)/100))) // rounded up, or few could never become more
	})
}

// downTo is the smallest size that the policies allow now.
func (h *history) downTo(l limits) int32 {
	rules := l.behavior.ScaleDown
	if policyOf(rules) == autoscalingv2.DisabledPolicySelect {
		return l.current
	}
	return choose(rules, policyOf(rules) != autoscalingv2.MinChangePolicySelect, func(p autoscalingv2.HPAScalingPolicy) int32 {
		start := h.sizeBefore(l.current, p)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start - p.Value
		}
		return int32(float64(start) * (1 - float64(p.Value)/100))
	})
}

func policyOf(rules *autoscalingv2.HPAScalingRules) autoscalingv2.ScalingPolicySelect {
	if rules.SelectPolicy == nil {
		return autoscalingv2.MaxChangePolicySelect
	}
	return *rules.SelectPolicy
}

// choose returns the smallest or the largest of what the policies propose.
func choose(rules *autoscalingv2.HPAScalingRules, smallest bool, propose func(autoscalingv2.HPAScalingPolicy) int32) int32 {
	out := int32(math.MinInt32)
	if smallest {
		out = math.MaxInt32
	}
	for _, p := range rules.Policies {
		if v := propose(p); smallest {
			out = min(out, v)
		} else {
			out = max(out, v)
		}
	}
	return out
}

// sizeBefore is the size that the target had when a policy's period began.
func (h *history) sizeBefore(current int32, p autoscalingv2.HPAScalingPolicy) int32 {
	period := time.Duration(p.PeriodSeconds) * time.Second
	change := func(events []event) (total int32) {
		for _, e := range events {
			if time.Since(e.at) < period {
				total += e.replicas
			}
		}
		return total
	}
	return current - change(h.up) + change(h.down)
}
