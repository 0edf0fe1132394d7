package allocation

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func newBook(t *testing.T, s *store.Store) *portBook {
	t.Helper()
	return &portBook{first: 30000, last: 30063, log: slog.New(slog.DiscardHandler), metrics: newMetrics(), record: &record{store: s, spec: "30000-30063"}}
}

func with(ports ...int32) func(context.Context) ([]*corev1.Service, error) {
	return func(context.Context) ([]*corev1.Service, error) {
		s := &corev1.Service{}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{NodePort: p})
		}
		return []*corev1.Service{s}, nil
	}
}

func TestServersOfOneDatabaseNeverGiveAPortTwice(t *testing.T) {
	db := storetest.New(t)
	books := []*portBook{newBook(t, db), newBook(t, db)}
	if _, err := books[0].takeAny(t.Context()); !errors.Is(err, errNoRecord) {
		t.Fatalf("without a record: %v", err)
	}
	for _, b := range books {
		if err := b.repair(t.Context(), with()); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var all []int32
	var g sync.WaitGroup
	for i := range 64 {
		g.Go(func() {
			port, err := books[i%2].takeAny(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			all = append(all, port)
		})
	}
	g.Wait()
	slices.Sort(all)
	if len(slices.Compact(all)) != 64 {
		t.Errorf("given: %v", all)
	}
	if _, err := books[1].takeAny(t.Context()); !errors.Is(err, errPortsFull) {
		t.Errorf("of a full range: %v", err)
	}
	books[0].free(t.Context(), 30007)
	if err := books[1].take(t.Context(), 30007); err != nil {
		t.Errorf("one that another server took back: %v", err)
	}
	if err := books[0].take(t.Context(), 30007); !errors.Is(err, errPortAllocated) {
		t.Errorf("one that another server gave: %v", err)
	}
	if err := books[0].take(t.Context(), 30064); err == nil || err.Error() != "provided port is not in the valid range. The range of valid ports is 30000-30063" {
		t.Errorf("one outside: %v", err)
	}
}

func TestADryRunReservesNothing(t *testing.T) {
	b := newBook(t, storetest.New(t))
	if err := b.repair(t.Context(), with(30001)); err != nil {
		t.Fatal(err)
	}
	take := (&Allocator{ports: *b}).portTaker(t.Context(), &transaction{}, true)
	for _, test := range []struct {
		name        string
		asked, want int32
		err         error
	}{
		{"a taken one", 30001, 0, errPortAllocated}, {"a free one", 30002, 30002, nil}, {"one of the same Service", 30002, 0, errPortAllocated},
		{"one outside the range", 1, 1, nil}, {"any", 0, 30003, nil}, {"another", 0, 30004, nil},
	} {
		if port, err := take(test.asked); port != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %d %v", test.name, port, err)
		}
	}
	if err := b.take(t.Context(), 30002); err != nil {
		t.Errorf("it is taken: %v", err)
	}
	take = (&Allocator{ports: *b}).portTaker(t.Context(), &transaction{}, true)
	for _, want := range []int32{firstDryPort, firstDryPort + 1} {
		if port, err := take(0); port != want || err != nil {
			t.Errorf("of a Service that asks for none: %d %v, want %d", port, err, want)
		}
	}
}

func TestALeakedPortIsGivenBackAfterSomeRounds(t *testing.T) {
	b := newBook(t, storetest.New(t))
	for _, ports := range [][]int32{{}, {30001}} {
		if err := b.repair(t.Context(), with(ports...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.take(t.Context(), 30002); err != nil {
		t.Fatal(err)
	}
	taken := func() (out []int32) {
		t.Helper()
		err := b.record.look(t.Context(), func(bits *big.Int) error {
			for p := b.first; p <= b.last; p++ {
				if bits.Bit(int(p-b.first)) == 1 {
					out = append(out, p)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for round := range roundsBeforeLeak {
		if got := taken(); !slices.Equal(got, []int32{30001, 30002}) {
			t.Fatalf("before round %d: %v", round, got)
		}
		if err := b.repair(t.Context(), with(30001)); err != nil {
			t.Fatal(err)
		}
	}
	if got := taken(); !slices.Equal(got, []int32{30001}) {
		t.Errorf("taken at last: %v", got)
	}
}
