package nftables

import (
	"github.com/google/nftables"

	"clipper.dev/clipper/internal/nft"
)

// everywhereOffset is where the places of the list everywhere begin.
const everywhereOffset = 1 << 16

// listRef names a list of endpoints in the map that shared chains pick from.
type listRef struct {
	elementRef
	list int
}

// places is what the kernel has of a list. The list may use fewer: those behind are left for packets that
// drew a place just before the number of places changed, until something else takes the place or the list goes.
type places struct {
	endpoints []endpointData
	used      int
}

// key is the key of one place: what the packet is addressed to, and the place's number. Node ports have no address.
func (t *table) key(ref listRef, place int) []byte {
	key := []byte(ref.key)
	if ref.set == serviceNodePorts {
		key = append(make([]byte, t.AddrLen), key...)
	}
	return append(key[:len(key):len(key)], native(uint32(ref.list*everywhereOffset+place))...)
}

// fill notes what to do so that a list has these endpoints. A list without any gives all its places up.
func (e *edit) fill(ref listRef, endpoints []endpointData) {
	t := e.table
	p := t.lists[ref]
	if p == nil {
		if len(endpoints) == 0 {
			return
		}
		p = &places{}
		t.lists[ref] = p
	}
	if len(endpoints) == 0 {
		for i := range p.endpoints {
			e.vacated = append(e.vacated, nftables.SetElement{Key: t.key(ref, i)})
		}
		delete(t.lists, ref)
		return
	}
	for i, ep := range arrange(p.endpoints[:p.used], endpoints) {
		if i < len(p.endpoints) {
			if p.endpoints[i] == ep {
				continue
			}
			e.vacated = append(e.vacated, nftables.SetElement{Key: t.key(ref, i)})
			p.endpoints[i] = ep
		} else {
			p.endpoints = append(p.endpoints, ep)
		}
		e.placed = append(e.placed, nftables.SetElement{Key: t.key(ref, i), Val: []byte(ep)})
	}
	p.used = len(endpoints)
}

// arrange gives each endpoint a place. As many as possible stay where they are: an endpoint that goes is
// replaced by a new one or else by one of the last.
func arrange(now, endpoints []endpointData) []endpointData {
	wanted := make(map[endpointData]bool, len(endpoints))
	for _, ep := range endpoints {
		wanted[ep] = true
	}
	places := make([]endpointData, len(endpoints))
	var moving []endpointData
	for i, ep := range now {
		if !wanted[ep] {
			continue
		}
		delete(wanted, ep)
		if i < len(places) {
			places[i] = ep
		} else {
			moving = append(moving, ep)
		}
	}
	for _, ep := range endpoints {
		if wanted[ep] {
			moving = append(moving, ep)
		}
	}
	for i := range places {
		if places[i] == "" {
			places[i], moving = moving[0], moving[1:]
		}
	}
	return places
}

// writeShared makes a shared chain.
func (t *table) writeShared(s shared) {
	name := s.name()
	t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
	t.masquerade(name, s.masquerade)
	addr, proto := nft.Reg, nft.Reg+t.slots()
	load := t.LoadDaddr(addr)
	if s.byPort {
		load = immediate(addr, make([]byte, t.AddrLen))
	}
	number := random(proto+2, s.count, s.list*everywhereOffset)
	t.rule(name, load, nft.LoadProtocol(proto), nft.LoadDport(proto+1), number,
		nft.DataMap(t.endpoints, addr, addr), t.DNAT(addr, addr+t.slots()))
}
