package probes

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/handlers"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// attempts is how often a probe that cannot be run is tried at a time.
const attempts = 3

// run probes until the context ends or the verdict is final.
func (s *Set) run(ctx context.Context, id string, c *container, k Kind) {
	p := probeOf(c.spec, k)
	timer := time.NewTimer(time.Until(c.since.Add(time.Duration(p.InitialDelaySeconds) * time.Second)))
	defer timer.Stop()
	var last lifecycle.Verdict
	run := int32(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begun := time.Now()
		if v, ok := s.once(ctx, c, k, p); ok {
			if v != last {
				last, run = v, 0
			}
			run++
			enough := max(p.SuccessThreshold, 1)
			if v == lifecycle.Failure {
				enough = max(p.FailureThreshold, 1)
			}
			if run >= enough && !s.set(ctx, id, c, k, v) {
				return
			}
		}
		// As a ticker would: the period counts from the beginning of a probe, and missed ones are left out.
		timer.Reset(time.Until(begun.Add(time.Duration(max(p.PeriodSeconds, 1)) * time.Second)))
	}
}

// once runs the probe; ok is false when that says nothing of the container.
func (s *Set) once(ctx context.Context, c *container, k Kind, p *corev1.Probe) (v lifecycle.Verdict, ok bool) {
	begun := time.Now()
	var outcome handlers.Outcome
	var output string
	var err error
	for range attempts {
		if outcome, output, err = handlers.Probe(ctx, s.cfg.Runner, &c.target, p); err == nil || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return 0, false
	}
	about := reference(c.target.Pod, c.spec.Name)
	result := "successful"
	switch {
	case err != nil:
		result = "unknown"
		s.cfg.Events.Eventf(about, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in %s state: %s", k, "unknown", err)
	case outcome == handlers.Failure:
		result, v = "failed", lifecycle.Failure
		s.cfg.Events.Eventf(about, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", k, output)
	case outcome == handlers.Warning:
		v = lifecycle.Success
		s.cfg.Events.Eventf(about, corev1.EventTypeWarning, "ProbeWarning", "%s probe warning: %s", k, output)
	default:
		v = lifecycle.Success
	}
	if s.cfg.Count != nil {
		s.cfg.Count(c.target.Pod, c.spec.Name, k, result, time.Since(begun))
	}
	return v, err == nil
}
