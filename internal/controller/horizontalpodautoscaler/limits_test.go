package horizontalpodautoscaler

import (
	"testing"
	"testing/synctest"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

func rules(window int32, choose autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &choose, Policies: policies}
}

func pods(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func percent(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: seconds}
}

// step is one recommendation after a time, and what comes of it.
type step struct {
	after         time.Duration
	wanted, want  int32
	able, limited string
}

func TestLimits(t *testing.T) {
	const most = autoscalingv2.MaxChangePolicySelect
	free := rules(0, most, percent(1000, 15))
	for name, test := range map[string]struct {
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		begin    int32
		steps    []step
	}{
		"without_a_behavior_it_grows_to_twice_the_size_at_once": {nil, 5, []step{
			{0, 50, 10, "ReadyForNewScale", "ScaleUpLimit"}, {15 * time.Second, 50, 20, "ReadyForNewScale", "ScaleUpLimit"},
			{15 * time.Second, 90, 30, "ReadyForNewScale", "TooManyReplicas"},
		}},
		"without_a_behavior_a_small_one_grows_to_four": {nil, 1, []step{{0, 9, 4, "ReadyForNewScale", "ScaleUpLimit"}}},
		"without_a_behavior_it_shrinks_when_the_window_is_over": {nil, 6, []step{
			{0, 2, 6, "ScaleDownStabilized", "DesiredWithinRange"}, {2 * time.Minute, 1, 6, "ScaleDownStabilized", "DesiredWithinRange"},
			{3*time.Minute + time.Second, 1, 2, "ReadyForNewScale", "TooFewReplicas"},
		}},
		"policies_bound_what_is_added_in_their_period": {&autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, most, pods(2, 60)), ScaleDown: free}, 4, []step{
			{0, 20, 6, "ReadyForNewScale", "ScaleUpLimit"}, {30 * time.Second, 20, 6, "ReadyForNewScale", "ScaleUpLimit"},
			{30 * time.Second, 20, 8, "ReadyForNewScale", "ScaleUpLimit"},
		}},
		"the_largest_policy_counts_unless_the_smallest_is_chosen": {&autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: rules(0, most, pods(2, 60), percent(100, 60)), ScaleDown: rules(0, autoscalingv2.MinChangePolicySelect, pods(1, 60), percent(50, 60)),
		}, 10, []step{{0, 25, 20, "ReadyForNewScale", "ScaleUpLimit"}, {time.Hour, 3, 19, "ReadyForNewScale", "ScaleDownLimit"}}},
		"a_disabled_direction_stays": {&autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: free, ScaleDown: rules(0, autoscalingv2.DisabledPolicySelect, pods(9, 60)),
		}, 10, []step{{0, 3, 10, "ReadyForNewScale", "ScaleDownLimit"}}},
		"a_window_of_growth_takes_its_lowest": {&autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(60, most, percent(1000, 15)), ScaleDown: free}, 4, []step{
			{0, 10, 4, "ScaleUpStabilized", "DesiredWithinRange"}, {30 * time.Second, 8, 4, "ScaleUpStabilized", "DesiredWithinRange"},
			{31 * time.Second, 12, 8, "ScaleUpStabilized", "DesiredWithinRange"},
		}},
		"within_both_windows_nothing_changes": {&autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(60, most, percent(1000, 15)), ScaleDown: rules(60, most, percent(100, 15))}, 4, []step{
			{0, 10, 4, "ScaleUpStabilized", "DesiredWithinRange"}, {10 * time.Second, 3, 4, "ScaleDownStabilized", "DesiredWithinRange"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, current := &history{}, test.begin
				h.begin(current)
				for i, s := range test.steps {
					time.Sleep(s.after)
					got, out := h.limit(limits{behavior: test.behavior, least: 2, most: 30, current: current}, s.wanted)
					if got != s.want || out.able.reason != s.able || out.limited.reason != s.limited {
						t.Fatalf("step %d: got %d, %s, %s; want %d, %s, %s", i, got, out.able.reason, out.limited.reason, s.want, s.able, s.limited)
					}
					if got != current {
						h.scaled(test.behavior, current, got)
					}
					current = got
				}
			})
		})
	}
}
