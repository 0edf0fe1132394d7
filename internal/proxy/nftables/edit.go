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
	shared   []shared           // shared chains that are new
	declare  map[string]bool    // own chains that are new
	write    []chain            // own chains whose rules are written anew
	remove   []string           // own chains that go
	maps     []chain            // whose client map is new
	dropMaps []string           // client maps that go
	stale    []chain            // whose clients may be bound to endpoints that went
	locals   map[netip.Addr]int // by how much the counts of local endpoints change
	// keepClients are client maps of the former table that are carried over.
	keepClients map[string]bool

	vacated, placed []nftables.SetElement // places of endpoints
	gone            []elementRef
	made            []*element
}

func newEdit(t *table) *edit {
	return &edit{table: t, declare: make(map[string]bool), locals: make(map[netip.Addr]int)}
}

// replace notes what to do so that old becomes new. Either may be nil.
func (e *edit) replace(old, new *rendered) {
	if old == nil {
		old = &rendered{}
	}
	if new == nil {
		new = &rendered{}
	}
	e.table.claims.replace(old.elements, new.elements)
	for _, s := range new.shared {
		if !e.table.shared[s] {
			e.table.shared[s] = true
			e.shared = append(e.shared, s)
		}
	}
	for _, a := range old.locals {
		e.locals[a]--
	}
	for _, a := range new.locals {
		e.locals[a]++
	}
	e.replaceChains(old.chains, new.chains)
}

func (e *edit) replaceChains(old, new []chain) {
	before := make(map[string]chain, len(old))
	for _, c := range old {
		before[c.name] = c
	}
	for _, c := range new {
		was, existed := before[c.name]
		delete(before, c.name)
		if existed && was.equal(c) {
			continue
		}
		if !existed {
			e.declare[c.name] = true
		}
		e.write = append(e.write, c)
		e.replaceMap(was, c)
	}
	for name, c := range before {
		e.remove = append(e.remove, name)
		e.replaceMap(c, chain{})
	}
}

func (e *edit) replaceMap(was, c chain) {
	oldMap, newMap := was.clients(), c.clients()
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

// settle turns what elements come to be into differences in the kernel's maps.
func (e *edit) settle() {
	for _, c := range e.table.claims.settle() {
		if c.have != nil && (c.want == nil || c.want.to != c.have.to) {
			e.gone = append(e.gone, c.have.elementRef)
		}
		if c.want != nil && (c.have == nil || c.want.to != c.have.to) {
			e.made = append(e.made, c.want)
		}
		for i := range 2 {
			if c.want != nil {
				e.fill(listRef{c.want.elementRef, i}, c.want.lists[i])
			} else {
				e.fill(listRef{c.have.elementRef, i}, nil)
			}
		}
	}
}

// apply adds the messages to the pending transaction and returns the new counts of local endpoints.
func (e *edit) apply() (map[netip.Addr]int, error) {
	t := e.table
	e.settle()
	if err := e.deleteElements(); err != nil {
		return nil, err
	}
	for _, s := range e.shared {
		t.writeShared(s)
	}
	if err := e.applyChains(); err != nil {
		return nil, err
	}
	if err := t.conn.DeleteElements(t.endpoints, e.vacated); err != nil {
		return nil, err
	}
	if err := t.conn.AddElements(t.endpoints, e.placed); err != nil {
		return nil, err
	}
	if err := e.addElements(); err != nil {
		return nil, err
	}
	for _, name := range e.remove {
		t.conn.DelChain(&nftables.Chain{Name: name, Table: t.table})
	}
	return e.countLocals()
}

// applyChains writes the service ports' own chains. Every old rule goes before maps go and before new ones are
// written, as rules refer to maps and to other chains.
func (e *edit) applyChains() error {
	t := e.table
	for name := range e.declare {
		t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
	}
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
		if err := e.addClientMap(c); err != nil {
			return err
		}
	}
	for _, c := range e.write {
		if err := t.writeChain(c); err != nil {
			return err
		}
	}
	return nil
}

// addClientMap makes the map of a chain's clients. When the table is written anew, clients stay with their endpoints: for
// them a restart of the process is nothing.
func (e *edit) addClientMap(c chain) error {
	t := e.table
	set := t.clientMap(c)
	var clients []nftables.SetElement
	if e.keepClients[set.Name] {
		former, err := t.conn.Elements(set)
		if err != nil {
			return err
		}
		for _, el := range former {
			if slices.Contains(c.endpoints, endpointData(el.Val)) {
				clients = append(clients, nftables.SetElement{Key: el.Key, Val: el.Val})
			}
		}
	}
	if err := t.conn.AddSet(set, nil); err != nil {
		return err
	}
	return t.conn.AddElements(set, clients)
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
