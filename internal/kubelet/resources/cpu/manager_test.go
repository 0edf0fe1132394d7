package cpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// fourCores is a machine of one socket with a thread for each core.
func fourCores() *machine.Topology {
	t := &machine.Topology{CPUs: map[int]machine.CPU{}, Nodes: []machine.Node{{}}}
	for id := range 4 {
		t.CPUs[id] = machine.CPU{ID: id, Core: id}
	}
	return t
}

func newTestManager(t *testing.T, dir string) *Manager {
	t.Helper()
	m, err := New(Config{
		Policy: PolicyStatic, Topology: fourCores(), Reserved: 500, Dir: dir, Affinity: func(types.UID, string) topology.Hint { return topology.Hint{} },
		Metrics: metrics.New(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestContainersFollowTheSharedCPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := newTestManager(t, dir)
		var mu sync.Mutex
		var told []string
		var fail error
		running := func() []Running { return []Running{{"uid-other", "c", "id-other"}, {"uid-own", "app", "id-own"}} }
		update := func(_ context.Context, id, cpus string) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, id+" "+cpus)
			return fail
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Follow(ctx, time.Minute, running, update) }()
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("%s: %q, not %q", when, told, want)
			}
			told = nil
		}
		own := (&step{Pod: "uid-own", Count: 2}).pod()
		if err := m.Allocate(ctx, own, &own.Spec.Containers[0]); err != nil {
			t.Fatal(err)
		}
		expect("at once", "id-other 0,3", "id-own 1-2")
		time.Sleep(61 * time.Second)
		expect("when nothing has changed")
		refuse := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fail = err
		}
		refuse(errors.New("busy"))
		if err := m.Keep(map[types.UID]*corev1.Pod{}); err != nil {
			t.Fatal(err)
		}
		expect("after the pod has gone", "id-other 0-3", "id-own 0-3")
		refuse(nil)
		time.Sleep(time.Minute)
		expect("what failed is tried again", "id-other 0-3", "id-own 0-3")
		cancel()
		<-done
		if again := newTestManager(t, dir); again.For("uid-own", "app").String() != "0-3" {
			t.Errorf("after a restart %v", again.state.own)
		}
	})
}

func TestAllocationsOutliveTheKubelet(t *testing.T) {
	dir := t.TempDir()
	pod := (&step{Pod: "uid", Init: 1, Count: 2}).pod()
	admit := func(m *Manager) string {
		for c := range topology.Containers(pod) {
			if err := m.Allocate(t.Context(), pod, c); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprint(m.Own("uid", "init"), " ", m.Own("uid", "app"), " ", m.For("uid", "other"))
	}
	first := admit(newTestManager(t, dir))
	if first != "1 1-2 0,3" {
		t.Errorf("given %s", first)
	}
	m := newTestManager(t, dir)
	if again := admit(m); again != first {
		t.Errorf("after a restart %s, not %s", again, first)
	}
	hints := m.PodHints(pod)[string(corev1.ResourceCPU)]
	if len(hints) != 1 || hints[0] != (topology.Hint{Nodes: topology.MaskOf(0), Preferred: true}) {
		t.Errorf("hints of what was given: %v", hints)
	}
	tooMuch := (&step{Pod: "more", Count: 2}).pod()
	if err := m.Allocate(t.Context(), tooMuch, &tooMuch.Spec.Containers[0]); err == nil || err.Error() != "not enough cpus available to satisfy request: requested=2, available=1" {
		t.Errorf("more than there are: %v", err)
	}
}

func TestPoliciesAreCheckedAtTheStart(t *testing.T) {
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Policy = "dynamic" }, `unknown policy: "dynamic"`},
		{func(c *Config) { c.Reserved = 0 }, "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"},
		{func(c *Config) { c.Options = map[string]string{"fast": "true"} }, `new static policy error: unknown CPU Manager Policy option: "fast"`},
		{func(c *Config) { c.Policy, c.Options = PolicyNone, map[string]string{"full-pcpus-only": "true"} }, "new none policy error: None policy: received unsupported options=map[full-pcpus-only:true]"},
		{func(c *Config) {
			c.Options = map[string]string{"full-pcpus-only": "true", "distribute-cpus-across-cores": "true"}
		},
			"new static policy error: static policy options full-pcpus-only and distribute-cpus-across-cores can not be used at the same time"},
	} {
		cfg := Config{Policy: PolicyStatic, Topology: fourCores(), Reserved: 1000, Dir: t.TempDir(), Metrics: metrics.New(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}
		tc.change(&cfg)
		if _, err := New(cfg); err == nil || err.Error() != tc.want {
			t.Errorf("%v, not %s", err, tc.want)
		}
	}
}
