package packed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand"
	"testing"
)

type item struct {
	key     string
	version int64
}

type items struct {
	all     []item
	encoded *int
}

func (s items) Len() int                 { return len(s.all) }
func (s items) ID(i int) (string, int64) { return s.all[i].key, s.all[i].version }
func (s items) Append(dst []byte, i int) ([]byte, error) {
	*s.encoded++
	return fmt.Appendf(dst, "<%s at %d, with some more text to compress>", s.all[i].key, s.all[i].version), nil
}

func unzip(t *testing.T, whole *bytes.Buffer) string {
	t.Helper()
	r, err := gzip.NewReader(whole)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false) // one member, for readers that know no more
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestOnlyWhatChangedIsEncodedAgain(t *testing.T) {
	var c Cache
	encoded := 0
	list := items{encoded: &encoded}
	for i := range 5000 {
		list.all = append(list.all, item{fmt.Sprintf("ns/%05d", i), int64(i)})
	}
	plain := func(head, tail string) string {
		var out []byte
		for i := range list.all {
			out, _ = list.Append(out, i)
		}
		return head + string(out) + tail
	}
	for round, change := range []func(){
		func() {},
		func() {},
		func() { list.all[2500].version = 9999 },
		func() { list.all = append(list.all[:100:100], list.all[101:]...) },
	} {
		change()
		encoded = 0
		var out bytes.Buffer
		if err := c.WriteGzip(&out, "f", []byte("head"), list, []byte("tail")); err != nil {
			t.Fatal(err)
		}
		n := encoded
		if got := unzip(t, &out); got != plain("head", "tail") {
			t.Fatalf("round %d: the stream holds something else", round)
		}
		if round == 0 && n != 5000 || round == 1 && n != 0 || round > 1 && (n == 0 || n > 3*runLimit) {
			t.Errorf("round %d encoded %d items", round, n)
		}
	}
}

// stuck takes some writes and no more.
type stuck struct{ left int }

func (s *stuck) Write(p []byte) (int, error) {
	if s.left--; s.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestNothingIsEncodedForAClientThatHasGone(t *testing.T) {
	var c Cache
	encoded := 0
	list := items{encoded: &encoded}
	for i := range 5000 {
		list.all = append(list.all, item{fmt.Sprintf("ns/%05d", i), int64(i)})
	}
	if err := c.WriteGzip(&stuck{left: 3}, "f", []byte("head"), list, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if encoded > 2*runLimit {
		t.Errorf("encoded %d items", encoded)
	}
}

func TestFormsDoNotMix(t *testing.T) {
	var c Cache
	encoded := 0
	list := items{all: []item{{"a", 1}}, encoded: &encoded}
	for _, form := range []string{"x", "y"} {
		if err := c.WriteGzip(io.Discard, form, nil, list, nil); err != nil {
			t.Fatal(err)
		}
	}
	if encoded != 2 {
		t.Errorf("encoded %d times", encoded)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	var c Cache
	noise := rand.New(rand.NewSource(1))
	for i := range 40 {
		big := make([]byte, 1<<20)
		noise.Read(big)
		if err := c.WriteGzip(io.Discard, "f", nil, blob{int64(i), big}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if c.size > maxBytes || c.recent.Len() != len(c.blocks) || c.recent.Len() == 0 {
		t.Errorf("%d bytes in %d blocks", c.size, c.recent.Len())
	}
}

type blob struct {
	version int64
	data    []byte
}

func (b blob) Len() int                                 { return 1 }
func (b blob) ID(int) (string, int64)                   { return "k", b.version }
func (b blob) Append(dst []byte, _ int) ([]byte, error) { return append(dst, b.data...), nil }

func TestCombinedSumsAreThoseOfTheWhole(t *testing.T) {
	noise := rand.New(rand.NewSource(2))
	for range 50 {
		a, b := make([]byte, noise.Intn(1000)), make([]byte, noise.Intn(100000))
		noise.Read(a)
		noise.Read(b)
		whole := crc32.ChecksumIEEE(append(bytes.Clone(a), b...))
		if got := combine(crc32.ChecksumIEEE(a), crc32.ChecksumIEEE(b), len(b)); got != whole {
			t.Fatalf("got %x, want %x", got, whole)
		}
	}
}
