package usage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// kubelet tells of a node that uses half a core, and of one container that does and has run from the beginning.
type kubelet struct {
	began time.Time
	looks atomic.Int64 // several nodes are looked at at once
	fails bool
}

func (k *kubelet) open(context.Context, string) (io.ReadCloser, error) {
	k.looks.Add(1)
	if k.fails {
		return nil, errors.New("gone")
	}
	now := time.Now()
	seconds := now.Sub(k.began).Seconds() / 2
	labels := `container="web",namespace="default",pod="web-1"`
	text := fmt.Sprintf(`# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total %[1]g %[2]d
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1000 %[2]d
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{%[3]s} %[1]g %[2]d
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{%[3]s} 500 %[2]d
# TYPE container_start_time_seconds gauge
container_start_time_seconds{%[3]s} %[4]f
`, seconds, now.UnixMilli(), labels, float64(k.began.UnixNano())/1e9)
	return io.NopCloser(strings.NewReader(text)), nil
}

var web = types.NamespacedName{Namespace: "default", Name: "web-1"}

func TestTheFirstAnswerTakesTwoLooksAndLaterOnesTellWhatWasUsedBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kubelet{began: time.Now().Add(-time.Hour)}
		r := New(k.open)
		for _, step := range []struct {
			after, window time.Duration
			looks         int64
		}{
			{0, firstWindow, 2},
			{fresh / 2, firstWindow, 2}, // the same answer
			{fresh, 15 * time.Second, 3},
			{memory + time.Second, firstWindow, 5},
		} {
			time.Sleep(step.after)
			used, ok := r.Nodes(t.Context(), []string{"n"})["n"]
			if !ok || k.looks.Load() != step.looks || used.Window != step.window || used.NanoCores/1e6 != 500 || used.MemoryBytes != 1000 {
				t.Errorf("after %s: %+v in %d looks, want a window of %s in %d", step.after, used, k.looks.Load(), step.window, step.looks)
			}
			if c := used.Containers[web]["web"]; c.NanoCores/1e6 != 500 || c.MemoryBytes != 500 {
				t.Errorf("after %s: the container uses %+v", step.after, c)
			}
		}
	})
}

func TestAContainerThatBeganBetweenTwoLooksCountsFromItsStart(t *testing.T) {
	at := time.Now()
	young := &point{at: at, started: at.Add(-4 * time.Second), seconds: 1, complete: needed}
	used, ok := young.since(&point{at: at.Add(-10 * time.Second), seconds: 7, complete: needed})
	if !ok || used.NanoCores != 25e7 || used.Window != 4*time.Second {
		t.Errorf("got %+v, %v", used, ok)
	}
	if _, ok := (&point{at: at, started: at, complete: needed}).since(nil); ok {
		t.Error("a container that has just begun has a usage")
	}
}

func TestANodeThatDoesNotAnswerIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kubelet{began: time.Now(), fails: true}
		r := New(k.open)
		if used := r.Nodes(t.Context(), []string{"n"}); len(used) != 0 {
			t.Errorf("got %+v", used)
		}
		k.fails = false
		time.Sleep(time.Second)
		if used := r.Nodes(t.Context(), []string{"n"}); len(used) != 1 {
			t.Error("it stays missing")
		}
	})
}

func TestWhatNobodyAsksAboutIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kubelet{began: time.Now()}
		r := New(k.open)
		r.Nodes(t.Context(), []string{"a", "b"})
		time.Sleep(memory + 2*timeout)
		r.Nodes(t.Context(), []string{"a"})
		if len(r.nodes) != 1 {
			t.Errorf("%d nodes are remembered", len(r.nodes))
		}
	})
}
