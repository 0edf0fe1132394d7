package nftables

import "slices"

// element is an entry of one of the four verdict maps, and what hangs on it.
type element struct {
	elementRef
	to string // chain
	// lists are the endpoints that shared chains find by this element's key: normal and everywhere.
	lists [2][]endpointData
}

// elementRef names an entry.
type elementRef struct {
	set elementSet
	key string // as registers hold it
}

type elementSet uint8

const (
	serviceIPs elementSet = iota
	serviceNodePorts
	noEndpointIPs
	noEndpointNodePorts
)

// claims are the elements that service ports ask for. Two ports can ask for the same one: the API server
// keeps node ports and cluster addresses apart, but not external addresses. The first that asked has it,
// and when that one goes, the next.
type claims struct {
	asked   map[elementRef][]*element // in the order in which they were asked for
	written map[elementRef]*element   // what the kernel has
	touched map[elementRef]struct{}   // where the two may differ
}

func newClaims() *claims {
	return &claims{asked: make(map[elementRef][]*element), written: make(map[elementRef]*element), touched: make(map[elementRef]struct{})}
}

// replace makes the claims of a port new. An element that is in both keeps its turn.
func (c *claims) replace(old, new []*element) {
	for _, o := range old {
		c.touched[o.elementRef] = struct{}{}
		list := slices.Clone(c.asked[o.elementRef])
		turn := slices.Index(list, o)
		if i := slices.IndexFunc(new, func(n *element) bool { return n.elementRef == o.elementRef }); i >= 0 {
			list[turn] = new[i]
		} else {
			list = slices.Delete(list, turn, turn+1)
		}
		if c.asked[o.elementRef] = list; len(list) == 0 {
			delete(c.asked, o.elementRef)
		}
	}
	for _, n := range new {
		if !slices.ContainsFunc(old, func(o *element) bool { return o.elementRef == n.elementRef }) {
			c.asked[n.elementRef] = append(c.asked[n.elementRef], n)
			c.touched[n.elementRef] = struct{}{}
		}
	}
}

// transition is a difference between what the kernel has for an element and what it should have. One of both may be nil.
type transition struct{ have, want *element }

// settle returns the differences and takes them as done.
func (c *claims) settle() []transition {
	var out []transition
	for ref := range c.touched {
		have, want := c.written[ref], (*element)(nil)
		if list := c.asked[ref]; len(list) > 0 {
			want = list[0]
		}
		if have == want {
			continue
		}
		out = append(out, transition{have, want})
		if want == nil {
			delete(c.written, ref)
			continue
		}
		c.written[ref] = want
	}
	clear(c.touched)
	return out
}
