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

// settle is how long a new container has before a failed probe counts. Within it probes that a success would end are tried early and often,
// as a program that listens after 50 ms shall not wait for its next regular probe.
const settle = time.Second

// earlyTries are when, after its start, a container is probed before the regular probes begin.
var earlyTries = []time.Duration{10 * time.Millisecond, 30 * time.Millisecond, 80 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}

// run probes until the context ends or the verdict is final.
func (s *Set) run(ctx context.Context, id string, c *container, k Kind) {
	p := probeOf(c.spec, k)
	delay := time.Duration(p.InitialDelaySeconds) * time.Second
	var last lifecycle.Verdict
	run := int32(0)
	// take notes one result; it returns false when probing ends with it.
	take := func(v lifecycle.Verdict) bool {
		if v != last {
			last, run = v, 0
		}
		run++
		enough := max(p.SuccessThreshold, 1)
		if v == lifecycle.Failure {
			enough = max(p.FailureThreshold, 1)
		}
		return run < enough || s.set(ctx, id, c, k, v)
	}
	next := c.since.Add(max(delay, settle))
	if delay == 0 && k != Liveness && s.early(ctx, c, p) {
		if !take(lifecycle.Success) {
			return
		}
		next = time.Now().Add(period(p))
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begun := time.Now()
		if v, ok := s.once(ctx, c, k, p); ok && !take(v) {
			return
		}
		// As a ticker would: the period counts from the beginning of a probe, and missed ones are left out.
		timer.Reset(time.Until(begun.Add(period(p))))
	}
}

func period(p *corev1.Probe) time.Duration {
	return time.Duration(max(p.PeriodSeconds, 1)) * time.Second
}

// early tries a probe while the container settles, without telling of failures. A command is tried once: it may be expensive.
func (s *Set) early(ctx context.Context, c *container, p *corev1.Probe) bool {
	tries := earlyTries
	if p.Exec != nil {
		tries = tries[:1]
	}
	for _, after := range tries {
		wait := time.Until(c.since.Add(after))
		if wait < -settle {
			return false // it has been running for long
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		if outcome, _, err := handlers.Probe(ctx, s.cfg.Runner, &c.target, p); err == nil && outcome != handlers.Failure {
			return true
		}
	}
	return false
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
