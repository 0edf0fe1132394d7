// Package probes watches over the health of a pod's containers.
//
//	set := probes.NewSet(cfg)
//	set.Sync(pod, ip, observed)            // after every change of the pod or its containers
//	health := set.Health(name, containerID)
//	set.Stop()
//
// A pod and its running containers flow in. For each probe of each running container there is one goroutine, which sleeps between probes;
// it ends with its container. Verdicts flow out, and a callback tells when one has changed. An idle set costs nothing but its timers.
package probes

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/handlers"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// Kind is what a probe is for.
type Kind int

// The kinds, in upstream's words by String.
const (
	Startup Kind = iota
	Liveness
	Readiness
)

func (k Kind) String() string { return [...]string{"Startup", "Liveness", "Readiness"}[k] }

// Config is what a Set needs.
type Config struct {
	Runner handlers.Runner
	Events *events.Recorder
	// Changed is called, from any goroutine, when a verdict has changed.
	Changed func()
	Logger  *slog.Logger
	// Count counts results for metrics; nil doesn't.
	Count func(pod *corev1.Pod, container string, k Kind, result string, took time.Duration)
}

// Set is the probes of one pod. Sync and Stop belong to one goroutine; Health may be called by any.
type Set struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	containers map[string]*container // by ID
	quiet      bool                  // only readiness is of interest any more
}

// container is the probes of one running container.
type container struct {
	verdicts [3]lifecycle.Verdict
	cancel   [3]context.CancelFunc
	spec     *corev1.Container // of one that has probes, as its target: else they would hold this version of the pod
	target   handlers.Target
	since    time.Time
}

// NewSet returns a set without probes. Its goroutines end with ctx or Stop.
func NewSet(ctx context.Context, cfg Config) *Set {
	ctx, cancel := context.WithCancel(ctx)
	return &Set{cfg: cfg, ctx: ctx, cancel: cancel, containers: map[string]*container{}}
}

// Stop ends all probes and waits for them.
func (s *Set) Stop() {
	s.cancel()
	s.wg.Wait()
}

// StopLiveness ends liveness and startup probes: the pod is being terminated.
func (s *Set) StopLiveness() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = true
	for _, c := range s.containers {
		c.stop(Liveness)
		c.stop(Startup)
	}
}

func (c *container) stop(k Kind) {
	if c.cancel[k] != nil {
		c.cancel[k]()
		c.cancel[k] = nil
	}
}

func probeOf(c *corev1.Container, k Kind) *corev1.Probe {
	switch k {
	case Startup:
		return c.StartupProbe
	case Liveness:
		return c.LivenessProbe
	}
	return c.ReadinessProbe
}

// Sync starts the probes of containers that run now and ends those of others. started tells of a container, by name and ID, that its startup
// was seen to succeed before this process began.
func (s *Set) Sync(pod *corev1.Pod, ip string, o *lifecycle.Observed, started func(name, id string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := map[string]bool{}
	for i := range o.Containers {
		seen := &o.Containers[i]
		if seen.State != lifecycle.Running || ip == "" {
			continue
		}
		ref, ok := lifecycle.Find(pod, seen.Name)
		if !ok || ref.Class == lifecycle.Ephemeral || ref.Class == lifecycle.Init && !lifecycle.IsSidecar(ref.Spec(pod)) {
			continue
		}
		running[seen.ID] = true
		if s.containers[seen.ID] == nil {
			s.add(pod, ref.Spec(pod), seen, ip, started(seen.Name, seen.ID))
		}
	}
	for id, c := range s.containers {
		if !running[id] {
			for k := range c.cancel {
				c.stop(Kind(k))
			}
			delete(s.containers, id)
		}
	}
}

func (s *Set) add(pod *corev1.Pod, spec *corev1.Container, seen *lifecycle.Container, ip string, started bool) {
	c := &container{since: seen.StartedAt}
	for k := range c.verdicts {
		if probeOf(spec, Kind(k)) != nil {
			c.verdicts[k] = lifecycle.Pending
			c.spec, c.target = spec, handlers.Target{Pod: pod, Container: spec, ContainerID: seen.ID, IP: ip}
		}
	}
	if started && c.verdicts[Startup] == lifecycle.Pending {
		c.verdicts[Startup] = lifecycle.Success
	}
	s.containers[seen.ID] = c
	if c.verdicts[Startup] == lifecycle.Pending {
		s.start(seen.ID, c, Startup)
		return
	}
	s.startRest(seen.ID, c)
}

// startRest starts the probes that wait for the startup probe.
func (s *Set) startRest(id string, c *container) {
	for _, k := range []Kind{Liveness, Readiness} {
		if c.verdicts[k] == lifecycle.Pending {
			s.start(id, c, k)
		}
	}
}

func (s *Set) start(id string, c *container, k Kind) {
	if s.quiet && k != Readiness {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c.cancel[k] = cancel
	s.wg.Go(func() { s.run(ctx, id, c, k) })
}

// Health returns the verdicts on a container. One that isn't known yet has all its probes pending.
func (s *Set) Health(spec *corev1.Container, id string) lifecycle.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	var v [3]lifecycle.Verdict
	if c := s.containers[id]; c != nil {
		v = c.verdicts
	} else {
		for k := range v {
			if probeOf(spec, Kind(k)) != nil {
				v[k] = lifecycle.Pending
			}
		}
	}
	return lifecycle.Health{Startup: v[Startup], Liveness: v[Liveness], Readiness: v[Readiness]}
}

// set records a verdict; it returns false when probing ends with it.
func (s *Set) set(ctx context.Context, id string, c *container, k Kind, v lifecycle.Verdict) bool {
	s.mu.Lock()
	if ctx.Err() != nil {
		s.mu.Unlock()
		return false
	}
	changed := c.verdicts[k] != v
	c.verdicts[k] = v
	if k == Startup && v == lifecycle.Success {
		s.startRest(id, c)
	}
	s.mu.Unlock()
	if changed {
		s.cfg.Changed()
	}
	return k == Readiness || k == Liveness && v == lifecycle.Success
}

// reference names a container in events.
func reference(pod *corev1.Pod, name string) *corev1.ObjectReference {
	return criconfig.ContainerReference(pod, name)
}
