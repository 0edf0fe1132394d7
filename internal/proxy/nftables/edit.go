package nftables

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"clipper.dev/clipper/internal/nft"
)

// edit collects differences and writes them in an order that the kernel accepts: elements go before the
// chains that they lead to, and chains exist before rules and elements lead to them.
type edit struct {
	table    *table
	write    []chain            // whose rules are written anew
	declare  map[string]bool    // chains that are new
	remove   []string           // chains that go
	maps     []chain            // whose client map is new
	dropMaps []string           // client maps that go
	stale    []chain            // whose clients may be bound to endpoints that went
	locals   map[netip.Addr]int // by how much the counts of local endpoints change
	gone     []elementRef
	made     []element
	// Elements of the maps that all chains share.
	vacated, placed, unbound, bound []nftables.SetElement
}

// replace notes what to do so that old becomes new. Either may be nil.
func (e *edit) replace(old, new *rendered) {
	if old == nil {
		old = &rendered{}
	}
	if new == nil {
		new = &rendered{}
	}
	for _, el := range old.elements {
		if !slices.Contains(new.elements, el) {
			e.table.claims.withdraw(el)
		}
	}
	for _, el := range new.elements {
		if !slices.Contains(old.elements, el) {
			e.table.claims.ask(el)
		}
	}
	for _, a := range old.locals {
		e.locals[a]--
	}
	for _, a := range new.locals {
		e.locals[a]++
	}
	before := make(map[string]chain, len(old.chains))
	for _, c := range old.chains {
		before[c.name] = c
	}
	for _, c := range new.chains {
		was, existed := before[c.name]
		delete(before, c.name)
		if existed && was.sameRules(c) && slices.Equal(was.endpoints, c.endpoints) {
			continue
		}
		e.place(c)
		e.replaceMap(was, c)
		if !existed || !was.sameRules(c) {
			e.write = append(e.write, c)
		}
		if !existed {
			e.declare[c.name] = true
		}
	}
	for name, c := range before {
		e.remove = append(e.remove, name)
		e.unplace(name)
		e.replaceMap(c, chain{})
	}
}

func (e *edit) replaceMap(was, c chain) {
	oldMap, newMap := was.affinityMap(), c.affinityMap()
	if oldMap == newMap && was.affinity == c.affinity {
		if newMap != "" {
			e.stale = append(e.stale, c)
		}
		return
	}
	if oldMap != "" {
		e.dropMaps = append(e.dropMaps, oldMap)
	}
	if newMap != "" {
		e.maps = append(e.maps, c)
	}
}

// apply adds the messages to the pending transaction and returns the new counts of local endpoints.
func (e *edit) apply() (map[netip.Addr]int, error) {
	t := e.table
	e.gone, e.made = t.claims.settle()
	if err := e.deleteElements(); err != nil {
		return nil, err
	}
	for name := range e.declare {
		t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
	}
	// Every rule goes before maps go and before any is written, as rules refer to maps and to other chains.
	for _, name := range e.remove {
		t.conn.FlushChain(&nftables.Chain{Name: name, Table: t.table})
	}
	for _, c := range e.write {
		if !e.declare[c.name] {
			t.conn.FlushChain(&nftables.Chain{Name: c.name, Table: t.table})
		}
	}
	for _, name := range e.dropMaps {
		t.conn.DelSet(&nftables.Set{Name: name, Table: t.table})
	}
	for _, c := range e.maps {
		if err := t.conn.AddSet(t.clientMap(c), nil); err != nil {
			return nil, err
		}
	}
	if err := e.sharedElements(); err != nil {
		return nil, err
	}
	for _, c := range e.write {
		t.writeChain(c)
	}
	if err := e.addElements(); err != nil {
		return nil, err
	}
	for _, name := range e.remove {
		t.conn.DelChain(&nftables.Chain{Name: name, Table: t.table})
	}
	return e.countLocals()
}

func (e *edit) set(s elementSet) *nftables.Set {
	t := e.table
	return []*nftables.Set{t.serviceIPs, t.serviceNodePorts, t.noEndpointIPs, t.noEndpointNodePorts}[s]
}

func (e *edit) deleteElements() error {
	bySet := make(map[elementSet][]nftables.SetElement)
	for _, ref := range e.gone {
		bySet[ref.set] = append(bySet[ref.set], nftables.SetElement{Key: []byte(ref.key)})
	}
	for s, elements := range bySet {
		if err := e.table.conn.DeleteElements(e.set(s), elements); err != nil {
			return err
		}
	}
	return nil
}

func (e *edit) addElements() error {
	bySet := make(map[elementSet][]nftables.SetElement)
	for _, el := range e.made {
		verdict := &expr.Verdict{Kind: expr.VerdictGoto, Chain: el.to}
		bySet[el.set] = append(bySet[el.set], nftables.SetElement{Key: []byte(el.key), VerdictData: verdict})
	}
	for s, elements := range bySet {
		if err := e.table.conn.AddElements(e.set(s), elements); err != nil {
			return err
		}
	}
	return nil
}

func (e *edit) countLocals() (map[netip.Addr]int, error) {
	t := e.table
	counts := maps.Clone(t.locals)
	var made, gone []nftables.SetElement
	for _, a := range slices.SortedFunc(maps.Keys(e.locals), netip.Addr.Compare) {
		before, after := counts[a], counts[a]+e.locals[a]
		pair := nftables.SetElement{Key: nft.ConcatKey(a.AsSlice(), a.AsSlice())}
		if before == 0 && after > 0 {
			made = append(made, pair)
		}
		if before > 0 && after == 0 {
			gone = append(gone, pair)
		}
		if counts[a] = after; after == 0 {
			delete(counts, a)
		}
	}
	if err := t.conn.AddElements(t.hairpin, made); err != nil {
		return nil, err
	}
	return counts, t.conn.DeleteElements(t.hairpin, gone)
}
