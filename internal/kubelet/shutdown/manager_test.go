package shutdown

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(name string, priority int32) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority}}
}

func TestPodsBelongToThePeriodOfTheirPriority(t *testing.T) {
	periods := sorted([]Period{{100000, 10 * time.Second}, {0, 30 * time.Second}, {10000, 20 * time.Second}})
	groups := group(periods, []*corev1.Pod{pod("low", -5), pod("none", 0), pod("edge", 10000), pod("between", 99999), pod("high", 2000001000), {ObjectMeta: metav1.ObjectMeta{Name: "unset"}}})
	var got []string
	for _, g := range groups {
		var names []string
		for _, p := range g {
			names = append(names, p.Name)
		}
		got = append(got, strings.Join(names, " "))
	}
	if want := []string{"low none unset", "edge between", "high"}; !slices.Equal(got, want) || total(periods) != time.Minute {
		t.Errorf("got %q in %v, want %q", got, total(periods), want)
	}
	if len(Periods(10*time.Second, 20*time.Second)) != 0 || len(Periods(0, 0)) != 0 {
		t.Error("times that make no sense make periods")
	}
}

// login1 is a logind that hands out a lock and tells when it is released.
type login1 struct {
	t    *testing.T
	held chan *os.File // the other ends of the locks
}

// Inhibit implements org.freedesktop.login1.Manager.
func (l *login1) Inhibit(what, who, _, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || who != "kubelet" || mode != "delay" {
		l.t.Errorf("a lock on %s by %s, %s", what, who, mode)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.held <- r
	l.t.Cleanup(func() { w.Close() })
	return dbus.UnixFD(w.Fd()), nil
}

// startBus starts a bus of the test's own.
func startBus(t *testing.T) func() (*dbus.Conn, error) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("there is no dbus-daemon")
	}
	dir := t.TempDir()
	address := "unix:path=" + filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<busconfig><type>session</type><listen>%s</listen><auth>EXTERNAL</auth><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow user="*"/><allow own="*"/></policy></busconfig>`, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file", config, "--nofork", "--print-address")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 256)); err != nil { // it listens once it has printed
		t.Fatal(err)
	}
	return func() (*dbus.Conn, error) { return dbus.Connect(address) }
}

func TestTheShutdownWaitsForThePods(t *testing.T) {
	bus := startBus(t)
	server, err := bus()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	fake := &login1{t: t, held: make(chan *os.File, 4)}
	if err := server.Export(fake, logindPath, logindManager); err != nil {
		t.Fatal(err)
	}
	if _, err := prop.Export(server, logindPath, prop.Map{logindManager: {"InhibitDelayMaxUSec": {Value: uint64(60e6)}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.RequestName(logind, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ended []string
	changed := make(chan struct{}, 4)
	m := New(Config{
		Periods: Periods(30*time.Second, 10*time.Second), Bus: bus, LogindConf: t.TempDir(),
		Pods: func() []*corev1.Pod { return []*corev1.Pod{pod("critical", criticalPriority), pod("web", 0)} },
		End: func(_ context.Context, p *corev1.Pod, seconds int64) {
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, fmt.Sprint(p.Name, " ", seconds))
		},
		Changed: func() { changed <- struct{}{} }, Event: func(string) {}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	lock := <-fake.held
	server.Emit(logindPath, logindManager+".PrepareForShutdown", true)
	<-changed
	if !m.Down() {
		t.Error("the machine isn't known to go down")
	}
	server.Emit(logindPath, logindManager+".PrepareForShutdown", false)
	<-changed
	<-fake.held // a new one
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"web 20", "critical 10"}; !slices.Equal(ended, want) {
		t.Errorf("ended were %v, want %v", ended, want)
	}
	if m.Down() {
		t.Error("a shutdown that was cancelled goes on")
	}
	lock.Close()
}

func TestTheDelayIsLengthened(t *testing.T) {
	bus := startBus(t)
	server, err := bus()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	fake := &login1{t: t, held: make(chan *os.File, 1)}
	properties, err := prop.Export(server, logindPath, prop.Map{logindManager: {"InhibitDelayMaxUSec": {Value: uint64(5e6), Writable: true, Emit: prop.EmitFalse}}})
	if err != nil {
		t.Fatal(err)
	}
	reload := reloader{func() { properties.SetMust(logindManager, "InhibitDelayMaxUSec", uint64(30e6)) }}
	for _, err := range []error{
		server.Export(fake, logindPath, logindManager), server.Export(reload, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{logind, "org.freedesktop.systemd1"} {
		if _, err := server.RequestName(name, dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
	}
	client, err := bus()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := New(Config{Periods: Periods(30*time.Second, 0), LogindConf: t.TempDir()})
	if err := m.lengthenDelay(t.Context(), client, client.Object(logind, logindPath)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(m.cfg.LogindConf, "99-kubelet.conf"))
	if err != nil || !strings.Contains(string(text), "InhibitDelayMaxSec=30") {
		t.Errorf("logind's configuration is %q, %v", text, err)
	}
}

// reloader is a systemd that makes logind read its configuration.
type reloader struct{ reload func() }

// KillUnit implements org.freedesktop.systemd1.Manager.
func (r reloader) KillUnit(string, string, int32) *dbus.Error {
	r.reload()
	return nil
}
