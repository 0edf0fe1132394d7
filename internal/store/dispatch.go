package store

import "sync"

// watchers are a table's watchers, filed so that a change finds those whom it may concern without asking the others.
type watchers struct {
	mu          sync.Mutex
	all         map[*Watch]struct{} // those filed nowhere else
	byName      map[string]map[*Watch]struct{}
	byNamespace map[string]map[*Watch]struct{}
	byIndex     map[string]map[string]map[*Watch]struct{}
	count       int
}

func (ws *watchers) init() {
	ws.all = map[*Watch]struct{}{}
	ws.byName = map[string]map[*Watch]struct{}{}
	ws.byNamespace = map[string]map[*Watch]struct{}{}
	ws.byIndex = map[string]map[string]map[*Watch]struct{}{}
}

// drawer is where a watcher is filed: a map and its place in the map of maps, which is nil for `all`.
func (ws *watchers) drawer(o *WatchOptions) (cabinet map[string]map[*Watch]struct{}, label string) {
	switch {
	case o.Index != "":
		if ws.byIndex[o.Index] == nil {
			ws.byIndex[o.Index] = map[string]map[*Watch]struct{}{}
		}
		return ws.byIndex[o.Index], o.Value
	case o.Name != "":
		return ws.byName, o.Name
	case o.Namespace != "":
		return ws.byNamespace, o.Namespace
	}
	return nil, ""
}

func (ws *watchers) add(w *Watch) {
	ws.count++
	cabinet, label := ws.drawer(&w.options)
	if cabinet == nil {
		ws.all[w] = struct{}{}
		return
	}
	if cabinet[label] == nil {
		cabinet[label] = map[*Watch]struct{}{}
	}
	cabinet[label][w] = struct{}{}
}

func (ws *watchers) remove(w *Watch) {
	cabinet, label := ws.drawer(&w.options)
	if cabinet == nil {
		if _, ok := ws.all[w]; ok {
			ws.count--
			delete(ws.all, w)
		}
		return
	}
	if _, ok := cabinet[label][w]; !ok {
		return
	}
	ws.count--
	if delete(cabinet[label], w); len(cabinet[label]) == 0 {
		delete(cabinet, label)
	}
}

// dispatch hands one revision's changes to the watchers. It never waits for any: one whose queue is full is cut off.
func (ws *watchers) dispatch(changes []*change) {
	if ws.count == 0 || len(changes) == 0 {
		return
	}
	if len(changes) == 1 {
		c := changes[0]
		ws.concerned(c, func(w *Watch) {
			if ev, ok := w.see(c); ok && !w.push(ev) {
				ws.remove(w)
			}
		})
		return
	}
	// A watcher receives a revision's events in one piece, so that it never reports half a revision as done.
	pieces := map[*Watch][]Event{}
	for _, c := range changes {
		ws.concerned(c, func(w *Watch) {
			if ev, ok := w.see(c); ok {
				pieces[w] = append(pieces[w], ev)
			}
		})
	}
	for w, events := range pieces {
		if !w.push(events...) {
			ws.remove(w)
		}
	}
}

// concerned calls fn once for every watcher that may see a change. fn may remove that watcher.
func (ws *watchers) concerned(c *change, fn func(*Watch)) {
	for w := range ws.all {
		fn(w)
	}
	either := c.either()
	for w := range ws.byName[either.record.Name] {
		fn(w)
	}
	for w := range ws.byNamespace[either.record.Namespace] {
		fn(w)
	}
	for index, drawers := range ws.byIndex {
		if index == OwnerIndex {
			ws.owners(c, drawers, fn)
			continue
		}
		was, is := c.former.field(index), c.now.field(index)
		for w := range drawers[is] {
			fn(w)
		}
		if was != is {
			for w := range drawers[was] {
				fn(w)
			}
		}
	}
}

func (ws *watchers) owners(c *change, drawers map[string]map[*Watch]struct{}, fn func(*Watch)) {
	seen := map[string]bool{}
	for _, e := range []*Entry{c.former, c.now} {
		if e == nil {
			continue
		}
		for i := range e.record.Owners {
			uid := string(e.record.Owners[i].UID)
			if seen[uid] {
				continue
			}
			seen[uid] = true
			for w := range drawers[uid] {
				fn(w)
			}
		}
	}
}

// closeAll ends every watch after the events that wait.
func (ws *watchers) closeAll(err error) {
	ws.each(func(w *Watch) { w.end(err, false) })
	ws.init()
	ws.count = 0
}

// each calls fn for every watcher.
func (ws *watchers) each(fn func(*Watch)) {
	for w := range ws.all {
		fn(w)
	}
	cabinets := []map[string]map[*Watch]struct{}{ws.byName, ws.byNamespace}
	for _, drawers := range ws.byIndex {
		cabinets = append(cabinets, drawers)
	}
	for _, cabinet := range cabinets {
		for _, drawer := range cabinet {
			for w := range drawer {
				fn(w)
			}
		}
	}
}
