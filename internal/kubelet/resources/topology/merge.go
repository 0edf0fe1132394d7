package topology

// Hint is a set of NUMA nodes that could serve a request. The empty set is no preference: any node will do.
type Hint struct {
	Nodes     Mask
	Preferred bool
}

// Hints are what a provider says for each resource. A resource with a nil slice has no preference, one with an empty slice cannot be served.
type Hints map[string][]Hint

// merger finds the best hint that a choice of one hint from each list agrees on.
type merger struct {
	all Mask
	// enough is the number of nodes that the neediest list asks for at least. Among hints that aren't preferred, the best have as many.
	enough int
	// better chooses between two different sets.
	better func(a, b Mask) Mask
}

// lists gathers the providers' hints: one list for each resource.
func lists(providers []Hints) [][]Hint {
	var out [][]Hint
	for _, hints := range providers {
		if len(hints) == 0 {
			out = append(out, []Hint{{Preferred: true}})
		}
		for _, list := range hints {
			switch {
			case list == nil:
				list = []Hint{{Preferred: true}}
			case len(list) == 0:
				list = []Hint{{}}
			}
			out = append(out, list)
		}
	}
	return out
}

// neediest returns the largest of the lists' smallest numbers of nodes.
func neediest(lists [][]Hint) int {
	most := 0
	for _, list := range lists {
		least := 0
		for _, h := range list {
			if n := h.Nodes.Count(); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		most = max(most, least)
	}
	return most
}

// merge goes through every choice. Where none agrees on any node the result is the whole machine, not preferred.
func (m *merger) merge(lists [][]Hint) Hint {
	var best *Hint
	var choose func(i int, common, first Mask, preferred bool)
	choose = func(i int, common, first Mask, preferred bool) {
		if i == len(lists) {
			if common != 0 {
				best = m.choose(best, Hint{common, preferred})
			}
			return
		}
		for _, h := range lists[i] {
			agreed, leader, good := common, first, preferred && h.Preferred
			if h.Nodes != 0 {
				if leader == 0 {
					leader = h.Nodes
				}
				agreed &= h.Nodes
				good = good && h.Nodes == leader // a choice is preferred only if all say the same
			}
			choose(i+1, agreed, leader, good)
		}
	}
	choose(0, m.all, 0, true)
	if best == nil {
		return Hint{Nodes: m.all}
	}
	return *best
}

// choose returns the better of two hints.
func (m *merger) choose(best *Hint, candidate Hint) *Hint {
	if best == nil || candidate.Preferred && !best.Preferred {
		return &candidate
	}
	if best.Preferred && !candidate.Preferred || best.Nodes == candidate.Nodes {
		return best
	}
	have, offered := best.Nodes.Count(), candidate.Nodes.Count()
	switch {
	case best.Preferred, have > m.enough, have == offered:
		// Compared by the sets alone.
	case have == m.enough, offered > m.enough:
		return best
	case offered == m.enough, offered > have:
		return &candidate // Closer to what's enough from below.
	default:
		return best
	}
	if m.better(best.Nodes, candidate.Nodes) == best.Nodes {
		return best
	}
	return &candidate
}
