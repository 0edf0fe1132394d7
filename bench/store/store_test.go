// Package store measures the store: what a write, a delivered event, a listed object and a cached one cost.
//
//	go test -bench . ./bench/store
package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// podBytes is about what a small pod takes.
const podBytes = 2048

func pod(i int) storetest.Object {
	o := storetest.Named(fmt.Sprint("ns-", i%20), fmt.Sprintf("web-5d4f8c7b9-%06d", i), strings.Repeat("x", podBytes-700))
	o.Labels = map[string]string{"app": fmt.Sprint("web-", i%200), "pod-template-hash": "5d4f8c7b9"}
	o.Fields = map[string]string{"spec.nodeName": fmt.Sprint("node-", i%1000), "status.phase": "Running"}
	o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f8c7b9", UID: "a0c9a3b2-0000-4c1e-9f0e-000000000000"}}
	return o
}

func key(o storetest.Object) string { return o.Namespace + "/" + o.Name }

func open(tb testing.TB) (*store.Store, *store.Table) {
	tb.Helper()
	s := storetest.New(tb)
	table, err := s.AddTable(tb.Context(), store.TableConfig{Prefix: "pods", Kind: storetest.Kind{}, Indexes: []string{"spec.nodeName"}})
	if err != nil {
		tb.Fatal(err)
	}
	return s, table
}

// load creates n pods with 32 writers.
func load(tb testing.TB, s *store.Store, table *store.Table, n int) {
	tb.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				o := pod(i)
				if _, err := table.Create(tb.Context(), key(o), o.Value(), store.WriteOptions{}); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if _, err := s.Sync(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprint(writers, " writers"), func(b *testing.B) {
			_, table := open(b)
			value := pod(1).Value()
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if _, err := table.Create(b.Context(), strconv.FormatInt(i, 10), value, store.WriteOptions{}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkLinearizableGet writes nothing: it is Sync and a lookup.
func BenchmarkLinearizableGet(b *testing.B) {
	s, table := open(b)
	load(b, s, table, 1000)
	k := key(pod(500))
	b.ResetTimer()
	for b.Loop() {
		if _, err := s.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, ok := table.Snapshot().Get(k); !ok {
			b.Fatal("missing")
		}
	}
}

// BenchmarkWatch writes b.N changes and waits until every watcher has been given those that concern it.
func BenchmarkWatch(b *testing.B) {
	for _, tc := range []struct {
		name    string
		options func(i int) store.WatchOptions
	}{
		{"1000 watchers of everything", func(int) store.WatchOptions { return store.WatchOptions{FromNow: true, Buffer: 1 << 20} }},
		{"1000 watchers of a node each", func(i int) store.WatchOptions {
			return store.WatchOptions{FromNow: true, Index: "spec.nodeName", Value: fmt.Sprint("node-", i), Buffer: 1 << 20}
		}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			s, table := open(b)
			var done sync.WaitGroup
			var delivered atomic.Int64
			var watches []*store.Watch
			for i := range 1000 {
				w, err := table.Watch(b.Context(), tc.options(i))
				if err != nil {
					b.Fatal(err)
				}
				watches = append(watches, w)
				done.Go(func() {
					for {
						batch, _, err := w.Next(b.Context())
						if err != nil {
							return
						}
						for _, ev := range batch {
							if _, err := ev.Frame(1, func() ([]byte, error) { return bytes.Clone(ev.Entry().Raw()), nil }); err != nil {
								b.Error(err)
							}
						}
						delivered.Add(int64(len(batch)))
					}
				})
			}
			b.ResetTimer()
			load(b, s, table, b.N)
			for _, w := range watches {
				for w.Progress() < s.Revision() {
					runtime.Gosched()
				}
			}
			b.StopTimer()
			for _, w := range watches {
				w.Stop()
			}
			done.Wait()
			b.ReportMetric(float64(delivered.Load())/float64(b.N), "events/op")
		})
	}
}

func BenchmarkList(b *testing.B) {
	s, table := open(b)
	load(b, s, table, 5000)
	b.ResetTimer()
	for b.Loop() {
		size := 0
		table.Snapshot().Ascend("", "", func(e *store.Entry) bool { size += len(e.Raw()); return true })
		if size < 5000*podBytes/2 {
			b.Fatal("objects are missing")
		}
	}
}

// TestMemoryPerEntry prints what an object costs, etcd included. It is a measurement and takes a while:
//
//	ENTRIES=50000 go test -run MemoryPerEntry -v ./bench/store
func TestMemoryPerEntry(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ENTRIES"))
	if err != nil {
		t.Skip("set ENTRIES to a number of objects")
	}
	s, table := open(t)
	before := memory()
	load(t, s, table, n)
	after := memory()
	e, _ := table.Snapshot().Get(key(pod(1)))
	var o json.RawMessage
	if err := json.Unmarshal(e.Raw(), &o); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d objects of %d bytes each", n, len(e.Raw()))
	for name, v := range after {
		t.Logf("%-14s %8.1f MiB, %6d bytes an object", name, float64(v-before[name])/(1<<20), (v-before[name])/int64(n))
	}
	runtime.KeepAlive(table)
}

// memory is the Go heap in use and the process's proportional set, in bytes.
func memory() map[string]int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out := map[string]int64{"heap in use": int64(m.HeapInuse), "heap live": int64(m.HeapAlloc)}
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "Pss:" || f[0] == "Pss_Anon:" || f[0] == "Pss_File:") {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				out[strings.TrimSuffix(f[0], ":")] = kib << 10
			}
		}
	}
	return out
}
