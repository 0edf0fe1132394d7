package shutdown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// What is said of pods when the machine goes down.
const (
	Reason         = "Terminated"
	Message        = "Pod was terminated in response to imminent node shutdown."
	RefusalReason  = "NodeShutdown"
	RefusalMessage = "Pod was rejected as the node is shutting down."
	EventReason    = "NodeShutdown"
)

// ErrShuttingDown is why a node isn't ready.
var ErrShuttingDown = errors.New("node is shutting down")

const (
	logind        = "org.freedesktop.login1"
	logindPath    = dbus.ObjectPath("/org/freedesktop/login1")
	logindManager = logind + ".Manager"

	reconnect = time.Second
	// reloads and firstLook bound how long logind may take to read its configuration: looks at 0.1, 0.2, 0.4, 0.8 and 1.6 seconds.
	reloads   = 5
	firstLook = 100 * time.Millisecond
)

// Config says what a Manager does. All fields but Bus, LogindConf and Metrics are required.
type Config struct {
	Periods []Period
	// Bus connects to the machine's bus; nil is the system's.
	Bus func() (*dbus.Conn, error)
	// LogindConf is the folder of logind's configuration; "" is /etc/systemd/logind.conf.d.
	LogindConf string
	// Pods lists those that run.
	Pods func() []*corev1.Pod
	// End ends a pod in at most this many seconds and returns when nothing of it is left, or with the context.
	End func(ctx context.Context, pod *corev1.Pod, seconds int64)
	// Changed is called when the machine begins to go down, or doesn't any more; Event tells of it.
	Changed func()
	Event   func(message string)
	Metrics *Metrics
	Logger  *slog.Logger
}

// Manager waits for the machine to go down. Make it with New.
type Manager struct {
	cfg  Config
	down atomic.Bool
}

// New returns a manager.
func New(cfg Config) *Manager {
	cfg.Periods = sorted(cfg.Periods)
	if cfg.Bus == nil {
		cfg.Bus = func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() }
	}
	if cfg.LogindConf == "" {
		cfg.LogindConf = "/etc/systemd/logind.conf.d"
	}
	return &Manager{cfg: cfg}
}

// Down tells whether the machine is going down.
func (m *Manager) Down() bool { return m != nil && m.down.Load() }

// Run waits until ctx ends, and connects again whenever the bus is lost.
func (m *Manager) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.watch(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Error("the machine's shutdown is not watched", "error", err)
		}
		pause(ctx, reconnect)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// watch follows one connection to the bus until it ends.
func (m *Manager) watch(ctx context.Context) error {
	conn, err := m.cfg.Bus()
	if err != nil {
		return fmt.Errorf("connect to the system's bus: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	manager := conn.Object(logind, logindPath)
	if err := m.lengthenDelay(ctx, conn, manager); err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 8)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("PrepareForShutdown"), dbus.WithMatchObjectPath(logindPath)); err != nil {
		return fmt.Errorf("watch for the machine's shutdown: %w", err)
	}
	lock, err := inhibit(manager)
	if err != nil {
		return err
	}
	defer func() { lock.release() }()
	for signal := range signals {
		if len(signal.Body) == 0 {
			continue
		}
		down, ok := signal.Body[0].(bool)
		if !ok {
			continue
		}
		m.announce(down)
		if !down {
			fresh, err := inhibit(manager)
			if err != nil {
				return err
			}
			lock.release()
			lock = fresh
			continue
		}
		m.cfg.Metrics.begin()
		m.end(ctx)
		m.cfg.Metrics.end()
		lock.release()
	}
	return errors.New("the system's bus has closed the connection")
}

func (m *Manager) announce(down bool) {
	m.down.Store(down)
	message := "Shutdown manager detected shutdown cancellation"
	if down {
		message = "Shutdown manager detected shutdown event"
	}
	m.cfg.Event(message)
	m.cfg.Changed()
}

// end ends the pods, one period's after the other's.
func (m *Manager) end(ctx context.Context) {
	for i, pods := range group(m.cfg.Periods, m.cfg.Pods()) {
		if len(pods) == 0 {
			continue
		}
		grace := m.cfg.Periods[i].Grace.Truncate(time.Second)
		limited, cancel := context.WithTimeout(ctx, grace)
		var wg sync.WaitGroup
		for _, pod := range pods {
			seconds := int64(grace / time.Second)
			if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
				seconds = min(seconds, *own)
			}
			wg.Go(func() { m.cfg.End(limited, pod, seconds) })
		}
		wg.Wait()
		if limited.Err() != nil {
			m.cfg.Logger.Warn("pods have not ended in their time before the shutdown", "priority", m.cfg.Periods[i].Priority, "time", grace)
		}
		cancel()
	}
}

// lengthenDelay makes logind wait as long as all periods take, if it would wait for less.
func (m *Manager) lengthenDelay(ctx context.Context, conn *dbus.Conn, manager dbus.BusObject) error {
	want := total(m.cfg.Periods)
	have, err := delay(manager)
	if err != nil || have >= want {
		return err
	}
	if err := os.MkdirAll(m.cfg.LogindConf, 0o755); err != nil {
		return fmt.Errorf("make logind's configuration: %w", err)
	}
	text := fmt.Sprintf("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=%.0f\n", want.Seconds())
	if err := os.WriteFile(filepath.Join(m.cfg.LogindConf, "99-kubelet.conf"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write logind's configuration: %w", err)
	}
	systemd := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	if err := systemd.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.KillUnit", 0, "systemd-logind.service", "all", int32(unix.SIGHUP)).Err; err != nil {
		return fmt.Errorf("unable to reload logind conf: %w", err)
	}
	for i := range reloads {
		pause(ctx, firstLook<<i)
		if have, err = delay(manager); err != nil || have >= want {
			return err
		}
	}
	return fmt.Errorf("node shutdown manager was timed out after %d attempts waiting for logind InhibitDelayMaxSec to update to %v (ShutdownGracePeriod), current value is %v", reloads, want, have)
}

func delay(manager dbus.BusObject) (time.Duration, error) {
	v, err := manager.GetProperty(logindManager + ".InhibitDelayMaxUSec")
	if err != nil {
		return 0, fmt.Errorf("failed reading InhibitDelayMaxUSec property from logind: %w", err)
	}
	usec, ok := v.Value().(uint64)
	if !ok {
		return 0, errors.New("InhibitDelayMaxUSec from logind is not a uint64 as expected")
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// lock delays the shutdown as long as it is held.
type lock struct{ fd int }

func inhibit(manager dbus.BusObject) (*lock, error) {
	var fd dbus.UnixFD
	if err := manager.Call(logindManager+".Inhibit", 0, "shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay").Store(&fd); err != nil {
		return nil, fmt.Errorf("failed creating systemd inhibitor: %w", err)
	}
	return &lock{int(fd)}, nil
}

func (l *lock) release() {
	if l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
}
