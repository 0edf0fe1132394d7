package nftables

// claims are the elements that service ports ask for. Two ports can ask for the same one: the API server
// keeps node ports and cluster addresses apart, but not external addresses. The first that asked has it,
// and when that one goes, the next.
type claims struct {
	asked   map[elementRef][]string // chains, in the order in which they were asked for
	written map[elementRef]string   // what the kernel has
	touched map[elementRef]struct{} // where the two may differ
}

type elementRef struct {
	set elementSet
	key string
}

func newClaims() *claims {
	return &claims{asked: make(map[elementRef][]string), written: make(map[elementRef]string), touched: make(map[elementRef]struct{})}
}

func (c *claims) withdraw(e element) {
	ref := elementRef{e.set, e.key}
	list := c.asked[ref]
	for i, to := range list {
		if to != e.to {
			continue
		}
		if len(list) == 1 {
			delete(c.asked, ref)
		} else {
			c.asked[ref] = append(append([]string(nil), list[:i]...), list[i+1:]...)
		}
		break
	}
	c.touched[ref] = struct{}{}
}

func (c *claims) ask(e element) {
	ref := elementRef{e.set, e.key}
	c.asked[ref] = append(c.asked[ref], e.to)
	c.touched[ref] = struct{}{}
}

// settle returns what to delete from the kernel and what to add afterwards, and takes it as done.
func (c *claims) settle() (gone []elementRef, made []element) {
	for ref := range c.touched {
		have, written := c.written[ref]
		want := ""
		if list := c.asked[ref]; len(list) > 0 {
			want = list[0]
		}
		if have == want {
			continue
		}
		if written {
			gone = append(gone, ref)
			delete(c.written, ref)
		}
		if want != "" {
			made = append(made, element{ref.set, ref.key, want})
			c.written[ref] = want
		}
	}
	clear(c.touched)
	return gone, made
}
