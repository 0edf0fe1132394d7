package probes

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// script answers the n-th exec with its n-th code and the last one for ever.
type script struct {
	codes   []int32
	count   atomic.Int64
	timeout atomic.Int64 // of the last probe
}

func (s *script) calls() int { return int(s.count.Load()) }

func (s *script) Exec(_ context.Context, _ string, _ []string, timeout time.Duration) ([]byte, int32, error) {
	s.timeout.Store(int64(timeout))
	n := int(s.count.Add(1)) - 1
	return nil, s.codes[min(n, len(s.codes)-1)], nil
}

func probe(period, failures, successes int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
		PeriodSeconds: period, FailureThreshold: failures, SuccessThreshold: successes, TimeoutSeconds: 1,
	}
}

func setup(t *testing.T, c corev1.Container, codes ...int32) (*Set, *corev1.Container, *script, *atomic.Int64) {
	t.Helper()
	run, changes := &script{codes: codes}, new(atomic.Int64)
	c.Name = "c"
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
	s := NewSet(t.Context(), Config{Runner: run, Changed: func() { changes.Add(1) }})
	o := &lifecycle.Observed{Containers: []lifecycle.Container{{ID: "1", Name: "c", State: lifecycle.Running, StartedAt: time.Now()}}}
	s.Sync(pod, "10.0.0.1", o, func(string, string) bool { return false })
	t.Cleanup(s.Stop)
	return s, &pod.Spec.Containers[0], run, changes
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestReadinessFollowsThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, _, changes := setup(t, corev1.Container{ReadinessProbe: probe(1, 2, 2)}, 0, 0, 1, 1, 0, 0)
		want := []lifecycle.Verdict{lifecycle.Pending, lifecycle.Success, lifecycle.Success, lifecycle.Failure, lifecycle.Failure, lifecycle.Success}
		for i, v := range want {
			after(20 * time.Millisecond)
			if got := s.Health(c, "1").Readiness; got != v {
				t.Errorf("after probe %d: %v, want %v", i+1, got, v)
			}
			after(time.Second - 20*time.Millisecond)
		}
		if changes.Load() != 3 {
			t.Errorf("%d changes, want 3", changes.Load())
		}
	})
}

func TestOtherProbesWaitForStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := corev1.Container{StartupProbe: probe(1, 5, 1), LivenessProbe: probe(1, 1, 1)}
		s, spec, run, _ := setup(t, c, 1, 1, 0, 0, 1)
		after(1500 * time.Millisecond)
		if h := s.Health(spec, "1"); h.Startup != lifecycle.Pending || h.Liveness != lifecycle.Pending || run.calls() != 2 {
			t.Fatalf("health %+v after %d probes", h, run.calls())
		}
		after(time.Second)
		if h := s.Health(spec, "1"); h.Startup != lifecycle.Success || h.Liveness != lifecycle.Success {
			t.Fatalf("health %+v, want startup and liveness to have succeeded", h)
		}
		after(time.Second)
		if h := s.Health(spec, "1"); h.Liveness != lifecycle.Failure {
			t.Fatalf("health %+v, want a failure", h)
		}
		calls := run.calls()
		after(10 * time.Second)
		if run.calls() != calls {
			t.Error("a container that is to be restarted was probed again")
		}
	})
}

func TestInitialDelayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe(1, 1, 1)
		p.InitialDelaySeconds = 5
		_, _, run, _ := setup(t, corev1.Container{LivenessProbe: p}, 0)
		after(4 * time.Second)
		if run.calls() != 0 {
			t.Errorf("%d probes before the delay was over", run.calls())
		}
		after(2 * time.Second)
		if run.calls() == 0 {
			t.Error("no probe after the delay")
		}
	})
}

func TestPeriodsAndTimeoutsAreKept(t *testing.T) {
	for name, of := range map[string]func(*corev1.Probe) corev1.Container{
		"startup":   func(p *corev1.Probe) corev1.Container { return corev1.Container{StartupProbe: p} },
		"liveness":  func(p *corev1.Probe) corev1.Container { return corev1.Container{LivenessProbe: p} },
		"readiness": func(p *corev1.Probe) corev1.Container { return corev1.Container{ReadinessProbe: p} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := probe(7, 100, 1)
				p.TimeoutSeconds = 5
				_, _, run, _ := setup(t, of(p), 1)
				after(100 * time.Second)
				start := run.calls()
				after(70 * time.Second)
				if n := run.calls() - start; n != 10 {
					t.Errorf("%d probes in 70 seconds, one each 7", n)
				}
				if got := time.Duration(run.timeout.Load()); got != 5*time.Second {
					t.Errorf("a probe may take %s", got)
				}
			})
		})
	}
}
