package store

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
)

func packable(n, size int) Snapshot {
	s := newState(nil)
	for i := range n {
		e := &Entry{key: fmt.Sprintf("ns/%05d", i)}
		e.content.set(bytes.Repeat([]byte{byte(i)}, size+i%7))
		s.set(e)
	}
	return Snapshot{state: s}
}

func slabsOf(s Snapshot) map[*slab]int {
	slabs := map[*slab]int{}
	s.Ascend("", "", func(e *Entry) bool { slabs[e.content.slab] += e.content.size; return true })
	return slabs
}

func entriesOf(s Snapshot) (entries []*Entry) {
	s.Ascend("", "", func(e *Entry) bool { entries = append(entries, e); return true })
	return entries
}

func TestPackedBytesStayWhatTheyWere(t *testing.T) {
	s := packable(2000, 1500)
	var readers sync.WaitGroup
	check := func() {
		i := 0
		s.Ascend("", "", func(e *Entry) bool {
			if raw := e.Raw(); len(raw) != 1500+i%7 || raw[0] != byte(i) || raw[len(raw)-1] != byte(i) {
				t.Errorf("%s has other bytes", e.Key())
				return false
			}
			i++
			return true
		})
	}
	for range 4 {
		readers.Go(func() {
			for range 50 {
				check()
			}
		})
	}
	pack(entriesOf(s))
	readers.Wait()
	check()
	slabs := slabsOf(s)
	if _, alone := slabs[nil]; alone || len(slabs) > 2000*1503/slabBytes+2 {
		t.Errorf("%d slabs, some bytes alone: %t", len(slabs), alone)
	}
}

func TestASlabThatIsMostlyEmptyIsLeft(t *testing.T) {
	s := packable(2000, 1500)
	pack(entriesOf(s))
	before := slabsOf(s)
	pack(entriesOf(s))
	if after := slabsOf(s); len(after) != len(before) {
		t.Errorf("full slabs were packed again: %d, then %d", len(before), len(after))
	}
	for i := range 2000 {
		if i%2 == 0 {
			s.state.remove(fmt.Sprintf("ns/%05d", i))
		}
	}
	pack(entriesOf(s))
	for sl := range slabsOf(s) {
		if _, old := before[sl]; old {
			t.Error("a slab that is half empty is still used")
		}
	}
}

func TestLargeBytesAndFewStayWhereTheyAre(t *testing.T) {
	for name, s := range map[string]Snapshot{"large": packable(20, packedLimit), "few": packable(10, 1000)} {
		pack(entriesOf(s))
		if slabs := slabsOf(s); len(slabs) != 1 || slabs[nil] == 0 {
			t.Errorf("%s were packed", name)
		}
	}
}

// decoding is a kind that only decodes.
type decoding struct{ Kind }

func (decoding) Decode([]byte) (apiruntime.Object, error) { return &unstructured.Unstructured{}, nil }

func TestPackingLetsGoOfObjectsThatNobodyUses(t *testing.T) {
	s := &Store{warm: warmObjects{limit: 1 << 20}}
	s.tables.Store(&map[string]*Table{})
	src := &source{kind: decoding{}, warm: &s.warm}
	used, unused := &Entry{source: src}, &Entry{source: src}
	held, err := used.Object()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unused.Object(); err != nil {
		t.Fatal(err)
	}
	decoded := func(e *Entry) bool { _, ok := e.decoded.Load().object(); return ok }
	runtime.GC()
	if !decoded(unused) {
		t.Error("an object that was decoded lately is gone")
	}
	s.Pack()
	runtime.GC()
	if decoded(unused) {
		t.Error("an object that nobody uses is still there")
	}
	if again, err := used.Object(); err != nil || again != held {
		t.Errorf("an object in use is decoded anew: %v", err)
	}
	runtime.KeepAlive(held)
}

func TestPackingLetsGoOfFrames(t *testing.T) {
	s := &Store{frames: frameCache{limit: 1 << 20}}
	s.tables.Store(&map[string]*Table{})
	ev := Event{Added, &change{table: &Table{store: s}}}
	encoded := 0
	for _, want := range []int{1, 1, 2} {
		if want == 2 {
			s.Pack()
		}
		b, err := ev.Frame(0, func() ([]byte, error) { encoded++; return []byte("frame"), nil })
		if err != nil || string(b) != "frame" || encoded != want {
			t.Fatalf("got %q, %v after %d encodings, want %d", b, err, encoded, want)
		}
	}
}

func TestPackingMovesFormerVersionsToo(t *testing.T) {
	s := &Store{}
	tab := newTable(s, TableConfig{})
	s.tables.Store(&map[string]*Table{"": tab})
	version := func(i int) *Entry {
		e := &Entry{key: fmt.Sprintf("ns/%05d", i)}
		e.content.set(bytes.Repeat([]byte{byte(i)}, 1000))
		return e
	}
	for i := range 100 {
		now := version(i)
		tab.state.set(now)
		tab.recent.append(&change{former: version(i), now: now, table: tab})
	}
	s.Pack()
	current, former := map[*slab]bool{}, map[*slab]bool{}
	for i, c := range tab.recent.all() {
		current[c.now.content.slab], former[c.former.content.slab] = true, true
		if raw := c.former.Raw(); len(raw) != 1000 || raw[0] != byte(i) || raw[999] != byte(i) {
			t.Errorf("the former version of %d has other bytes", i)
		}
	}
	for at := range former {
		if at == nil || current[at] || len(former) != 1 || len(current) != 1 {
			t.Errorf("former versions lie in %d slabs, current ones in %d: together %t, alone %t", len(former), len(current), current[at], at == nil)
		}
	}
}

func TestAFormerVersionStaysDecodedOnlyWhileItIsUsed(t *testing.T) {
	warm := warmObjects{limit: 1 << 20}
	src := &source{kind: decoding{}, warm: &warm}
	current, former, used := &Entry{source: src}, &Entry{source: src}, &Entry{source: src}
	var held any
	for _, e := range []*Entry{current, former, used} {
		obj, err := e.Object()
		if err != nil {
			t.Fatal(err)
		}
		held = obj // in the end the last one's
	}
	former.supersede()
	used.supersede()
	runtime.GC()
	for name, test := range map[string]struct {
		e    *Entry
		want bool
	}{"current": {current, true}, "former": {former, false}, "former, in use": {used, true}} {
		if _, got := test.e.decoded.Load().object(); got != test.want {
			t.Errorf("%s: decoded is %t", name, got)
		}
	}
	runtime.KeepAlive(held)
}

func TestWhatIsWarmIsBounded(t *testing.T) {
	warm := warmObjects{limit: 10 * entryOverheadBytes}
	src := &source{kind: decoding{}, warm: &warm}
	for i := range 20000 {
		e := &Entry{source: src}
		if _, err := e.Object(); err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 { // the others leave by their age
			e.supersede()
		}
	}
	if len(warm.ring) > 4096 || warm.size > warm.limit || warm.size < warm.limit/2 {
		t.Errorf("%d in the ring, %d bytes", len(warm.ring), warm.size)
	}
}
