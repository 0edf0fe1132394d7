package lifecycle

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestResizeRestarts(t *testing.T) {
	restarting := func(of ...corev1.ResourceName) *corev1.Container {
		c := &corev1.Container{}
		for _, name := range of {
			c.ResizePolicy = append(c.ResizePolicy, corev1.ContainerResizePolicy{ResourceName: name, RestartPolicy: corev1.RestartContainer})
		}
		return c
	}
	from := JoinResources(100, 200, 16, 32)
	for name, c := range map[string]struct {
		container *corev1.Container
		to        string
		want      bool
	}{
		"without_a_policy_nothing_does":              {restarting(), JoinResources(1, 2, 3, 4), false},
		"a_change_of_the_other_resource_does_not":    {restarting(corev1.ResourceCPU), JoinResources(100, 200, 16, 64), false},
		"a_CPU_request_does":                         {restarting(corev1.ResourceCPU), JoinResources(150, 200, 16, 32), true},
		"a_CPU_limit_does":                           {restarting(corev1.ResourceCPU), JoinResources(100, 250, 16, 32), true},
		"a_memory_request_does":                      {restarting(corev1.ResourceMemory), JoinResources(100, 200, 24, 32), true},
		"a_memory_limit_does":                        {restarting(corev1.ResourceMemory), JoinResources(100, 200, 16, 64), true},
		"a_policy_for_both_holds_for_the_second_too": {restarting(corev1.ResourceCPU, corev1.ResourceMemory), JoinResources(100, 200, 16, 64), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := resizeRestarts(c.container, from, c.to); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestContainersThatRunAreResizedInPlace(t *testing.T) {
	for name, pod := range map[string]*corev1.Pod{
		"a_regular_one": podOf(corev1.RestartPolicyAlways, "c"), "an_init_container": podOf(corev1.RestartPolicyAlways, "i:c", "later"), "a_sidecar": podOf(corev1.RestartPolicyAlways, "s:c", "later"),
	} {
		t.Run(name, func(t *testing.T) {
			o := seen("c")
			o.Containers[0].Applied = JoinResources(100, 200, 16, 32)
			plan := Decide(Input{
				Pod: pod, Observed: o, Hash: func(*corev1.Container) string { return "h" }, Health: func(string, string) Health { return Health{Startup: Success} },
				Resources: func(*corev1.Container) string { return JoinResources(100, 200, 16, 64) },
			})
			if len(plan.Resize) != 1 || plan.Resize[0].Spec(pod).Name != "c" || len(plan.Kill) > 0 {
				t.Errorf("plan = %+v", plan)
			}
		})
	}
}
