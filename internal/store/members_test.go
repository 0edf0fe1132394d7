package store_test

import (
	"fmt"
	"net"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func freePeerURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestThreeMembers(t *testing.T) {
	ctx := t.Context()
	first := storetest.Config(t, t.TempDir())
	first.Name, first.PeerURL = "one", freePeerURL(t)
	one := storetest.Open(t, first)
	tableOne := things(t, one)
	for i := range 50 {
		mustCreate(t, tableOne, storetest.Named("ns", fmt.Sprint(i), "x"))
	}

	join := func(name string) (*store.Store, store.Config) {
		cfg := storetest.Config(t, t.TempDir())
		cfg.Name, cfg.PeerURL = name, freePeerURL(t)
		j, err := one.AddMember(ctx, name, cfg.PeerURL)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Join = &j
		s := storetest.Open(t, cfg)
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is a voter", func() bool { return one.PromoteMember(ctx, st.MemberID) == nil })
		return s, cfg
	}
	two, _ := join("two")
	three, cfgThree := join("three")

	t.Run("every member serves the same state", func(t *testing.T) {
		tableTwo, tableThree := things(t, two), things(t, three)
		r := mustCreate(t, tableThree, storetest.Named("ns", "from-three", "x"))
		for _, s := range []*store.Store{one, two, three} {
			if got := mustSync(t, s); got < r {
				t.Fatalf("a linearizable read came to %d, not %d", got, r)
			}
		}
		for _, table := range []*store.Table{tableOne, tableTwo, tableThree} {
			if n := table.Snapshot().Count(""); n != 51 {
				t.Fatalf("%d objects", n)
			}
		}
	})
	t.Run("the loss of one is survived, and it returns by its own log", func(t *testing.T) {
		if err := three.Close(); err != nil {
			t.Fatal(err)
		}
		r := mustCreate(t, tableOne, storetest.Named("ns", "without-three", "x"))
		three := storetest.Open(t, cfgThree)
		if got := mustSync(t, three); got < r {
			t.Fatalf("it came back at %d, not %d", got, r)
		}
		if n := things(t, three).Snapshot().Count(""); n != 52 {
			t.Fatalf("%d objects", n)
		}
		eventually(t, "three members are listed by name", func() bool {
			st, err := one.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return len(st.Members) == 3 && st.Members[0].Name != "" && st.Members[1].Name != "" && st.Members[2].Name != ""
		})
	})
}
