package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var epoch = time.Unix(1_700_000_000, 0)

// podOf makes a pod of containers: "i:name" is an init container, "s:name" a sidecar, "e:name" an ephemeral one, anything else a regular one.
func podOf(policy corev1.RestartPolicy, names ...string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 3}, Spec: corev1.PodSpec{RestartPolicy: policy}}
	for _, n := range names {
		class, name, ok := strings.Cut(n, ":")
		c := corev1.Container{Name: name, Image: "image"}
		switch {
		case !ok:
			c.Name = n
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		case class == "s":
			c.RestartPolicy = &always
			fallthrough
		case class == "i":
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		case class == "e":
			pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "image"}})
		}
	}
	return pod
}

// seen makes what the runtime shows: "name" runs, "name=3" has exited with 3, "name?" is unknown, "name+" is created. The newest comes first.
func seen(containers ...string) *Observed {
	o := &Observed{RuntimeName: "test", Sandboxes: []Sandbox{{ID: "sandbox", Ready: true, IPs: []string{"10.0.0.1"}}}}
	for i, text := range containers {
		c := Container{ID: fmt.Sprint("id-", i), SandboxID: "sandbox", State: Running, Hash: "h", StartedAt: epoch, Image: "image", ImageRef: "sha256:1"}
		name, code, exited := strings.Cut(text, "=")
		switch {
		case exited:
			c.State, c.FinishedAt, c.Reason = Exited, epoch.Add(time.Minute), "Error"
			fmt.Sscan(code, &c.ExitCode)
		case strings.HasSuffix(name, "?"):
			c.State = Unknown
		case strings.HasSuffix(name, "+"):
			c.State = Created
		}
		c.Name = strings.TrimRight(name, "?+")
		o.Containers = append(o.Containers, c)
	}
	return o
}

func without(change func(*Sandbox), o *Observed) *Observed {
	change(&o.Sandboxes[0])
	return o
}

// describe writes a plan in short: "kill-pod sandbox(1) kill(a) remove(b) start(c)".
func describe(pod *corev1.Pod, p Plan) string {
	var out []string
	if p.KillPod {
		out = append(out, "kill-pod")
	}
	for _, k := range p.Kill {
		out = append(out, "kill("+k.Name+")")
	}
	for _, k := range p.Remove {
		out = append(out, "remove("+k.Name+")")
	}
	if p.CreateSandbox {
		out = append(out, fmt.Sprintf("sandbox(%d)", p.Attempt))
	}
	for _, r := range p.Start {
		out = append(out, "start("+r.Spec(pod).Name+")")
	}
	return strings.Join(out, " ")
}

func TestDecide(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	healthy := func(string, string) Health { return Health{} }
	sick := func(verdict Health) HealthFunc { return func(string, string) Health { return verdict } }
	notReady := func(s *Sandbox) { s.Ready = false }
	for _, tc := range []struct {
		name   string
		pod    *corev1.Pod
		o      *Observed
		health HealthFunc
		want   string
	}{
		{"a new pod gets its sandbox and all its containers", podOf(always, "a", "b"), &Observed{}, nil, "sandbox(0) start(a) start(b)"},
		{"a new pod with init containers starts the first of them", podOf(always, "i:x", "i:y", "a"), &Observed{}, nil, "sandbox(0) start(x)"},
		{"a pod that runs is left alone", podOf(always, "a", "b"), seen("a", "b"), nil, ""},
		{"an init container that runs is waited for", podOf(always, "i:x", "a"), seen("x"), nil, ""},
		{"after one init container comes the next", podOf(always, "i:x", "i:y", "a"), seen("x=0"), nil, "start(y)"},
		{"after the last init container come the others", podOf(always, "i:x", "i:y", "a"), seen("y=0", "x=0"), nil, "start(a)"},
		{"init containers that were collected don't run again", podOf(always, "i:x", "i:y", "a"), seen("a"), nil, ""},
		{"a failed init container runs again", podOf(always, "i:x", "a"), seen("x=1"), nil, "start(x)"},
		{"a failed init container ends a pod that never restarts", podOf(never, "i:x", "a"), seen("x=1"), nil, "kill-pod"},
		{"a container that exited runs again", podOf(always, "a", "b"), seen("a=0", "b"), nil, "start(a)"},
		{"on failure only those that failed run again", podOf(onFailure, "a", "b"), seen("a=0", "b=1"), nil, "start(b)"},
		{"a finished pod is stopped", podOf(never, "a"), seen("a=0"), nil, "kill-pod"},
		{"a container that was made but not started is made anew", podOf(always, "a"), seen("a+"), nil, "start(a)"},
		{"a container of unknown state is killed before it starts again", podOf(always, "a"), seen("a?"), nil, "kill(a) start(a)"},
		{"a failed liveness probe restarts", podOf(always, "a"), seen("a"), sick(Health{Liveness: Failure}), "kill(a) start(a)"},
		{"a failed startup probe restarts", podOf(onFailure, "a"), seen("a"), sick(Health{Startup: Failure}), "kill(a) start(a)"},
		{"a failed liveness probe ends a pod that never restarts", podOf(never, "a"), seen("a"), sick(Health{Liveness: Failure}), "kill-pod kill(a)"},
		{"a failed readiness probe does nothing", podOf(always, "a"), seen("a"), sick(Health{Readiness: Failure}), ""},
		{"a sidecar that runs lets the others start", podOf(always, "s:x", "a"), seen("x"), nil, "start(a)"},
		{"a sidecar that isn't started yet is waited for", podOf(always, "s:x", "a"), seen("x"), sick(Health{Startup: Pending}), ""},
		{"a sidecar comes back while the others run", podOf(always, "s:x", "a"), seen("a", "x=1"), nil, "start(x)"},
		{"sidecars alone don't keep a pod", podOf(never, "s:x", "a"), seen("a=0", "x"), nil, "kill-pod"},
		{"a sidecar behind another waits for it", podOf(always, "s:x", "s:y", "a"), seen("x"), nil, "start(y)"},
		{"a lost sandbox takes everything with it", podOf(always, "i:x", "a"), without(notReady, seen("a=137", "x=0")), nil, "kill-pod sandbox(1) start(x)"},
		{"a lost sandbox of a pod that never restarts isn't made anew", podOf(never, "a"), without(notReady, seen("a=137")), nil, "kill-pod"},
		{"a sandbox without an address is made anew", podOf(always, "a"), without(func(s *Sandbox) { s.IPs = nil }, seen()), nil, "kill-pod sandbox(1) start(a)"},
		{"an ephemeral container starts beside the others", podOf(always, "a", "e:debug"), seen("a"), nil, "start(debug)"},
		{"an ephemeral container never runs twice", podOf(always, "a", "e:debug"), seen("a", "debug=1"), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.health == nil {
				tc.health = healthy
			}
			plan := Decide(Input{Pod: tc.pod, Observed: tc.o, Health: tc.health, Hash: func(*corev1.Container) string { return "h" }})
			if got := describe(tc.pod, plan); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAChangedImageRestartsWhateverThePolicy(t *testing.T) {
	pod := podOf(corev1.RestartPolicyNever, "a")
	plan := Decide(Input{Pod: pod, Observed: seen("a"), Health: func(string, string) Health { return Health{} }, Hash: func(*corev1.Container) string { return "new" }})
	if got := describe(pod, plan); got != "kill(a) start(a)" {
		t.Errorf("got %q", got)
	}
	if m := plan.Kill[0].Message; m != "Container a definition changed, will be restarted" {
		t.Errorf("message = %q", m)
	}
}

func TestWhatIsStoppedToStartAgainIsReplaced(t *testing.T) {
	sick := func(name, _ string) Health { return map[string]Health{"a": {Liveness: Failure}}[name] }
	for policy, want := range map[corev1.RestartPolicy]bool{corev1.RestartPolicyAlways: true, corev1.RestartPolicyOnFailure: true, corev1.RestartPolicyNever: false} {
		pod := podOf(policy, "a", "b")
		plan := Decide(Input{Pod: pod, Observed: seen("a", "b"), Health: sick, Hash: func(*corev1.Container) string { return "h" }})
		if got := plan.Replaces(pod); got != want {
			t.Errorf("%s: replaced is %v, want %v", policy, got, want)
		}
	}
}

func TestRestartRules(t *testing.T) {
	never := corev1.ContainerRestartPolicyNever
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, action corev1.ContainerRestartRuleAction, codes ...int32) *corev1.Pod {
		pod := podOf(corev1.RestartPolicyNever, "a", "b")
		pod.Spec.Containers[0].RestartPolicy = &never
		pod.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
		return pod
	}
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		o    *Observed
		want string
	}{
		{"a listed exit code restarts", rule("In", "Restart", 42), seen("a=42", "b"), "start(a)"},
		{"another exit code does not", rule("In", "Restart", 42), seen("a=1", "b"), ""},
		{"NotIn is the opposite", rule("NotIn", "Restart", 42), seen("a=1", "b"), "start(a)"},
		{"one container can restart all, itself last", rule("In", "RestartAllContainers", 42), seen("a=42", "b"), "remove(b) remove(a)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := Decide(Input{Pod: tc.pod, Observed: tc.o, Health: func(string, string) Health { return Health{} }, Hash: func(*corev1.Container) string { return "h" }})
			if got := describe(tc.pod, plan); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStopsAfter(t *testing.T) {
	pod := podOf(corev1.RestartPolicyAlways, "s:x", "i:y", "s:z", "a", "b")
	running := []string{"x", "z", "a", "b"}
	for name, want := range map[string][]string{"a": nil, "x": {"z", "a", "b"}, "z": {"a", "b"}} {
		if got := StopsAfter(pod, name, running); !slices.Equal(got, want) {
			t.Errorf("%s stops after %v, want %v", name, got, want)
		}
	}
}

func TestCrashWaits(t *testing.T) {
	var c Crash
	now := epoch
	var waits []time.Duration
	for range 8 {
		until := c.Until(now, now)
		if until.IsZero() {
			waits = append(waits, 0)
		} else {
			waits = append(waits, until.Sub(now))
			now = until
		}
		c.Restart(now, now, CrashWaits{10 * time.Second, 5 * time.Minute})
	}
	want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second}
	if !slices.Equal(waits, want) {
		t.Errorf("waits = %v, want %v", waits, want)
	}
	later := now.Add(goodRun + time.Second)
	if until := c.Until(later, later); !until.IsZero() {
		t.Error("a container that ran for long still waits")
	}
}

func TestGracePeriods(t *testing.T) {
	five, thirty, sixty := int64(5), int64(30), int64(60)
	pod := podOf(corev1.RestartPolicyAlways, "a")
	pod.Spec.TerminationGracePeriodSeconds = &thirty
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: &sixty}
	c := &pod.Spec.Containers[0]
	if g := GracePeriod(pod, c, KillOther); g != 30 {
		t.Errorf("plain: %d", g)
	}
	if g := GracePeriod(pod, c, KillLivenessProbe); g != 60 {
		t.Errorf("liveness: %d", g)
	}
	if g := PodGracePeriod(pod, nil, 0); g != 30 {
		t.Errorf("pod: %d", g)
	}
	if g := PodGracePeriod(pod, &five, 30); g != 5 {
		t.Errorf("shortened: %d", g)
	}
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: epoch}, &sixty
	if g := PodGracePeriod(pod, nil, 5); g != 5 {
		t.Errorf("never longer again: %d", g)
	}
}
