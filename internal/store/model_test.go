package store_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// model is what a table should hold, and held at each revision.
type model struct {
	now     map[string]storetest.Object
	at      map[string]int64
	history map[int64][]string
}

func (m *model) render() []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m.now)) {
		out = append(out, fmt.Sprintf("%s=%s@%d", key, m.now[key].Data, m.at[key]))
	}
	return out
}

// TestAgainstAModel does random things to two tables and checks them against plain maps: states at random revisions,
// and watchers with selectors whose replayed events must give the state that their selector picks.
func TestAgainstAModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			cfg := storetest.Config(t, t.TempDir())
			cfg.LogEvents = 40
			s := storetest.Open(t, cfg)
			prefixes := []string{"as", "bs"}
			tables := map[string]*store.Table{}
			models := map[string]*model{}
			for _, p := range prefixes {
				tables[p] = addTable(t, s, p)
				models[p] = &model{map[string]storetest.Object{}, map[string]int64{}, map[int64][]string{}}
			}
			var replays []*replay
			for step := range 400 {
				p := prefixes[random.IntN(2)]
				table, m := tables[p], models[p]
				r := m.step(t, table, random, step)
				for other, om := range models {
					_ = other
					om.history[r] = om.render()
				}
				if step%25 == 0 {
					mustSync(t, s)
					replays = append(replays, newReplay(t, table, m, random))
				}
				if step%40 == 39 {
					mustSync(t, s)
					for p, m := range models {
						m.check(t, tables[p], random)
					}
				}
			}
			now := mustSync(t, s)
			for _, r := range replays {
				r.check(t, now)
			}
		})
	}
}

func (m *model) step(t *testing.T, table *store.Table, random *rand.Rand, step int) int64 {
	t.Helper()
	o := storetest.Named(fmt.Sprint("ns", random.IntN(3)), fmt.Sprint(random.IntN(12)), fmt.Sprint(step))
	o.Labels = map[string]string{"color": []string{"red", "blue"}[random.IntN(2)]}
	o.Fields = map[string]string{"node": fmt.Sprint(random.IntN(3))}
	key := keyOf(o)
	_, exists := m.now[key]
	var r int64
	switch {
	case exists && random.IntN(3) == 0:
		r = mustDelete(t, table, key)
		delete(m.now, key)
		delete(m.at, key)
		return r
	case exists:
		r = mustUpdate(t, table, o, m.at[key])
	default:
		r = mustCreate(t, table, o)
	}
	m.now[key], m.at[key] = o, r
	return r
}

func (m *model) check(t *testing.T, table *store.Table, random *rand.Rand) {
	t.Helper()
	if got := contents(t, table.Snapshot()); !slices.Equal(got, m.render()) {
		t.Fatalf("now: got %v, want %v", got, m.render())
	}
	revisions := slices.Sorted(maps.Keys(m.history))
	for range 10 {
		r := revisions[random.IntN(len(revisions))]
		snap, err := table.SnapshotAt(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, snap); !slices.Equal(got, m.history[r]) {
			t.Fatalf("at %d: got %v, want %v", r, got, m.history[r])
		}
	}
}

// replay is a watcher whose events are applied to a map.
type replay struct {
	table   *store.Table
	model   *model
	w       *store.Watch
	options store.WatchOptions
	state   map[string]int64
}

func newReplay(t *testing.T, table *store.Table, m *model, random *rand.Rand) *replay {
	t.Helper()
	o := store.WatchOptions{Initial: true}
	switch random.IntN(4) {
	case 0:
		o.Namespace = "ns1"
	case 1:
		o.Index, o.Value = "node", "1"
	case 2:
		o.Match = func(r *store.Record) bool { return r.Labels["color"] == "red" }
	case 3:
		o.Name, o.Match = "3", func(r *store.Record) bool { return r.Fields["node"] != "0" }
	}
	w, err := table.Watch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	r := &replay{table: table, model: m, w: w, options: o, state: map[string]int64{}}
	seq, _ := w.Initial()
	for e := range seq {
		r.state[e.Key()] = e.Revision()
	}
	return r
}

func (r *replay) check(t *testing.T, now int64) {
	t.Helper()
	for r.w.Progress() < now {
		batch, _, err := r.w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range batch {
			r.apply(t, ev)
		}
	}
	want := map[string]int64{}
	for key, o := range r.model.now {
		if r.picks(o) {
			want[key] = r.model.at[key]
		}
	}
	if !maps.Equal(r.state, want) {
		t.Errorf("%+v: got %v, want %v", r.options, r.state, want)
	}
}

func (r *replay) apply(t *testing.T, ev store.Event) {
	t.Helper()
	key := ev.Entry().Key()
	_, has := r.state[key]
	if has == (ev.Type == store.Added) {
		t.Fatalf("%s %s at %d does not fit what came before", ev.Type, key, ev.Revision())
	}
	r.state[key] = ev.Revision()
	if ev.Type == store.Deleted {
		delete(r.state, key)
	}
}

func (r *replay) picks(o storetest.Object) bool {
	op := r.options
	rec := &store.Record{Namespace: o.Namespace, Name: o.Name, Labels: o.Labels, Fields: o.Fields}
	return (op.Namespace == "" || op.Namespace == o.Namespace) && (op.Name == "" || op.Name == o.Name) &&
		(op.Index == "" || o.Fields[op.Index] == op.Value) && (op.Match == nil || op.Match(rec))
}
