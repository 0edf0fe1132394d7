package lifecycle

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func statusOf(pod *corev1.Pod, o *Observed, change func(*StatusInput)) corev1.PodStatus {
	in := StatusInput{Pod: pod, Observed: o, Health: func(string, string) Health { return Health{} }, HostIPs: []string{"192.0.2.1"}, Now: epoch.Add(time.Hour)}
	if change != nil {
		change(&in)
	}
	return Status(in)
}

func condition(s corev1.PodStatus, t corev1.PodConditionType) corev1.PodCondition {
	if c := findCondition(s.Conditions, t); c != nil {
		return *c
	}
	return corev1.PodCondition{}
}

func TestPhases(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	restartingAll := func(pod *corev1.Pod) *corev1.Pod {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers[:1]} {
			for i := range list {
				list[i].RestartPolicyRules = []corev1.ContainerRestartRule{{
					Action: corev1.ContainerRestartRuleActionRestartAllContainers, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}},
				}}
			}
		}
		return pod
	}
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		o    *Observed
		want corev1.PodPhase
	}{
		{"nothing runs yet", podOf(always, "a"), &Observed{}, corev1.PodPending},
		{"one of two runs", podOf(always, "a", "b"), seen("a"), corev1.PodPending},
		{"both run", podOf(always, "a", "b"), seen("a", "b"), corev1.PodRunning},
		{"one has exited and will be back", podOf(always, "a", "b"), seen("a=1", "b"), corev1.PodRunning},
		{"all have exited and will be back", podOf(always, "a"), seen("a=0"), corev1.PodRunning},
		{"init containers run", podOf(always, "i:x", "a"), seen("x"), corev1.PodPending},
		{"an init container has failed and will be tried again", podOf(always, "i:x", "a"), seen("x=1"), corev1.PodPending},
		{"an init container has failed for good", podOf(never, "i:x", "a"), seen("x=1"), corev1.PodFailed},
		{"an init container has made all start again", restartingAll(podOf(never, "i:x", "a")), seen("x=42"), corev1.PodPending},
		{"the only container has made all start again", restartingAll(podOf(never, "a")), seen("a=42"), corev1.PodRunning},
		{"all have succeeded", podOf(never, "a", "b"), seen("a=0", "b=0"), corev1.PodSucceeded},
		{"one has failed for good", podOf(never, "a", "b"), seen("a=0", "b=2"), corev1.PodFailed},
		{"one that failed is tried again", podOf(onFailure, "a", "b"), seen("a=0", "b=2"), corev1.PodRunning},
		{"a sidecar restarts beside what runs", podOf(always, "s:x", "a"), seen("a", "x=1"), corev1.PodRunning},
		{"the others are done while a sidecar runs", podOf(never, "s:x", "a"), seen("a=0", "x"), corev1.PodRunning},
		{"the sidecar is done as well", podOf(never, "s:x", "a"), seen("a=0", "x=137"), corev1.PodSucceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := statusOf(tc.pod, tc.o, func(in *StatusInput) { in.Stopped = true }).Phase; got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAPodsOwnResourcesAreToldWhenTheyAreInForce(t *testing.T) {
	limit := func(memory string) *corev1.ResourceRequirements {
		return &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}}
	}
	pod := podOf(corev1.RestartPolicyAlways, "a")
	pod.Spec.Resources = limit("10Ki")
	if got := statusOf(pod, seen("a"), nil).Resources.Limits.Memory().String(); got != "10Ki" {
		t.Errorf("got %s", got)
	}
	if got := statusOf(pod, seen("a"), func(in *StatusInput) { in.Enforced = limit("64Mi") }).Resources.Limits.Memory().String(); got != "64Mi" {
		t.Errorf("while the former ones are in force: %s", got)
	}
}

func TestATerminalPhaseWaitsUntilNothingRuns(t *testing.T) {
	pod := podOf(corev1.RestartPolicyNever, "a")
	pod.Status.Phase = corev1.PodRunning
	s := statusOf(pod, seen("a=0"), nil)
	if s.Phase != corev1.PodRunning || condition(s, corev1.PodReady).Reason != "PodCompleted" {
		t.Errorf("while the sandbox stands: %s, %+v", s.Phase, condition(s, corev1.PodReady))
	}
	if s := statusOf(pod, seen("a=0"), func(in *StatusInput) { in.Stopped = true }); s.Phase != corev1.PodSucceeded {
		t.Errorf("after: %s", s.Phase)
	}
}

func TestConditions(t *testing.T) {
	gate := podOf(corev1.RestartPolicyAlways, "a")
	gate.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x/gate"}}
	for _, tc := range []struct {
		name            string
		pod             *corev1.Pod
		o               *Observed
		health          Health
		kind            corev1.PodConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{"without a sandbox containers cannot start", podOf("Always", "a"), &Observed{}, Health{}, corev1.PodReadyToStartContainers, "False", "", ""},
		{"with one they can", podOf("Always", "a"), seen(), Health{}, corev1.PodReadyToStartContainers, "True", "", ""},
		{"init containers are incomplete", podOf("Always", "i:x", "a"), seen("x"), Health{}, corev1.PodInitialized, "False", "ContainersNotInitialized", "containers with incomplete status: [x]"},
		{"all containers run", podOf("Always", "a"), seen("a"), Health{}, corev1.PodReady, "True", "", ""},
		{"one doesn't", podOf("Always", "a", "b"), seen("a"), Health{}, corev1.ContainersReady, "False", "ContainersNotReady", "containers with unready status: [b]"},
		{"a readiness probe hasn't succeeded yet", podOf("Always", "a"), seen("a"), Health{Readiness: Pending}, corev1.PodReady, "False", "ContainersNotReady", "containers with unready status: [a]"},
		{"a readiness gate is missing", gate, seen("a"), Health{}, corev1.PodReady, "False", "ReadinessGatesNotReady", `corresponding condition of pod readiness gate "x/gate" does not exist.`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := statusOf(tc.pod, tc.o, func(in *StatusInput) { in.Health = func(string, string) Health { return tc.health } })
			c := condition(s, tc.kind)
			if c.Status != tc.status || c.Reason != tc.reason || c.Message != tc.message || c.ObservedGeneration != 3 {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestContainerStatuses(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, "a")
	t.Run("one that waits to restart shows how it ended last", func(t *testing.T) {
		s := statusOf(pod, seen("a=3"), func(in *StatusInput) {
			in.Waiting = map[string]Waiting{"a": {Reason: "CrashLoopBackOff", Message: "m"}}
		}).ContainerStatuses[0]
		if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 3 {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("a restarted one shows its former run", func(t *testing.T) {
		o := seen("a", "a=3")
		o.Containers[0].RestartCount = 1
		s := statusOf(pod, o, nil).ContainerStatuses[0]
		if s.RestartCount != 1 || s.State.Running == nil || s.LastTerminationState.Terminated == nil || s.ContainerID != "test://id-0" {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("readiness survives a restart of the kubelet until a probe says otherwise", func(t *testing.T) {
		before := statusOf(pod, seen("a"), nil)
		s := statusOf(pod, seen("a"), func(in *StatusInput) {
			in.Previous = before
			in.Health = func(string, string) Health { return Health{Startup: Pending, Readiness: Pending} }
		}).ContainerStatuses[0]
		if !s.Ready || !*s.Started {
			t.Errorf("got %+v", s)
		}
	})
	t.Run("one that ran and that the runtime has lost counts as failed", func(t *testing.T) {
		before := statusOf(pod, seen("a"), nil)
		s := statusOf(pod, seen(), func(in *StatusInput) { in.Previous = before }).ContainerStatuses[0]
		if last := s.LastTerminationState.Terminated; last == nil || last.ExitCode != 137 || s.RestartCount != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestFinishTellsOfWhatWasNeverSeenToEnd(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, "a")
	s := Finish(pod, statusOf(pod, &Observed{}, nil))
	if c := s.ContainerStatuses[0].State.Terminated; s.Phase != corev1.PodFailed || c == nil || c.Reason != "ContainerStatusUnknown" || c.ExitCode != 137 {
		t.Errorf("got %s, %+v", s.Phase, s.ContainerStatuses[0])
	}
	pod = podOf(corev1.RestartPolicyAlways, "i:x", "a")
	s = Finish(pod, statusOf(pod, &Observed{}, nil))
	if s.ContainerStatuses[0].State.Waiting == nil {
		t.Error("a container that the pod never came to counts as lost")
	}
}

func TestAddressesAreSortedByTheNodesFamily(t *testing.T) {
	ips := []string{"10.0.0.1", "fd00::1", "10.0.0.2"}
	if got := SortIPs(ips, []string{"2001:db8::1"}); len(got) != 2 || got[0] != "fd00::1" || got[1] != "10.0.0.1" {
		t.Errorf("got %v", got)
	}
}
