package node

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Startup tells how long it took, since the machine came up, until a node that is new was ready: under upstream's names. A node that the API
// knew already isn't measured. A nil *Startup is silent.
type Startup struct {
	before, registering, registration, settling, whole prometheus.Gauge

	started time.Time // the kubelet

	mu                    sync.Mutex
	attempted, registered time.Time
	ready                 bool
}

// NewStartup makes the metrics of a kubelet that has started at a time, and registers them.
func NewStartup(r prometheus.Registerer, started time.Time) *Startup {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubelet_node_startup_" + name + "seconds", Help: "Duration in seconds of node startup " + help + "."})
		r.MustRegister(g)
		return g
	}
	return &Startup{
		started:      started,
		before:       gauge("pre_kubelet_duration_", "before kubelet starts"),
		registering:  gauge("pre_registration_duration_", "before registration"),
		registration: gauge("registration_duration_", "during registration"),
		settling:     gauge("post_registration_duration_", "after registration"),
		whole:        gauge("duration_", "in total"),
	}
}

// attempt notes that the node is about to be registered.
func (s *Startup) attempt() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempted.IsZero() {
		s.attempted = time.Now()
	}
}

// created notes that the API has a new node.
func (s *Startup) created() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.registered.IsZero() {
		return
	}
	s.registered = time.Now()
	if up, ok := bootTime(); ok {
		s.before.Set(s.started.Sub(up).Seconds())
	}
	s.registering.Set(s.attempted.Sub(s.started).Seconds())
	s.registration.Set(s.registered.Sub(s.attempted).Seconds())
}

// settled notes that the API knows the node as ready.
func (s *Startup) settled() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready || s.registered.IsZero() {
		return
	}
	s.ready = true
	now := time.Now()
	s.settling.Set(now.Sub(s.registered).Seconds())
	if up, ok := bootTime(); ok {
		s.whole.Set(now.Sub(up).Seconds())
	}
}

// bootTime is when the machine came up.
func bootTime() (time.Time, bool) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, false
	}
	return time.Now().Add(-time.Duration(up.Nano())), true
}
