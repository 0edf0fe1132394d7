package nodeipam

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestRangesAreGivenOutInTurn(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.244.0.0/16"), 0, newMetrics())
	if err != nil {
		t.Fatal(err)
	}
	p.occupy("old", netip.MustParsePrefix("10.244.1.0/24"))
	for i, want := range []string{"10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"} {
		if got, _ := p.allocate(fmt.Sprint("n", i)); got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got, _ := p.allocate("n1"); got.String() != "10.244.2.0/24" {
		t.Errorf("a node that asks again gets %s", got)
	}
	p.release("n0")
	if got, _ := p.allocate("n9"); got.String() != "10.244.4.0/24" {
		t.Errorf("what was left behind is reused at once: %s", got)
	}
}

func TestARangeThatIsUsedUp(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("fd00::/63"), 0, newMetrics())
	a, _ := p.allocate("a")
	b, _ := p.allocate("b")
	if a.String() != "fd00::/64" || b.String() != "fd00:0:0:1::/64" {
		t.Errorf("got %s and %s", a, b)
	}
	if c, ok := p.allocate("c"); ok {
		t.Errorf("got %s", c)
	}
	p.release("a")
	if c, ok := p.allocate("c"); !ok || c != a {
		t.Errorf("got %s, %v", c, ok)
	}
}

func TestALargerRangeTakesAllThatItCovers(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("10.0.0.0/22"), 24, newMetrics())
	p.occupy("big", netip.MustParsePrefix("10.0.0.0/23"))
	if got, _ := p.allocate("n"); got.String() != "10.0.2.0/24" {
		t.Errorf("got %s", got)
	}
	if _, err := newPool(netip.MustParsePrefix("10.0.0.0/24"), 16, newMetrics()); err == nil {
		t.Error("a range was cut into larger ones")
	}
}
