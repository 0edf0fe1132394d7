package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
)

// writeChain adds the rules of a chain, which is empty.
func (t *table) writeChain(c chain) {
	mark := nft.SetMark(t.cfg.MasqueradeMark)
	switch {
	case c.masquerade == everybody:
		t.rule(c.name, mark)
	case c.masquerade == outsiders && t.clusterCIDRs() > 0:
		t.rule(c.name, t.notFromCluster(), mark)
	}
	if c.insiders != "" {
		for _, cidr := range t.cfg.ClusterCIDRs {
			if t.has(cidr.Addr()) {
				t.rule(c.name, t.SaddrIn(cidr), nft.Goto(c.insiders))
			}
		}
		t.rule(c.name, nft.SaddrIsLocal(), mark)
		t.rule(c.name, nft.SaddrIsLocal(), nft.Goto(c.insiders))
	}
	for _, r := range c.ranges {
		t.rule(c.name, t.SaddrIn(r), nft.Goto(c.next))
	}
	switch {
	case len(c.ranges) > 0:
		t.rule(c.name, nft.Drop())
	case c.next != "":
		t.rule(c.name, nft.Goto(c.next))
	case len(c.endpoints) > 0:
		t.distribute(c)
	}
}

func (t *table) clusterCIDRs() int {
	n := 0
	for _, cidr := range t.cfg.ClusterCIDRs {
		if t.has(cidr.Addr()) {
			n++
		}
	}
	return n
}

// notFromCluster matches sources outside of all pods' addresses.
func (t *table) notFromCluster() nft.Statement {
	var s nft.Statement
	for _, cidr := range t.cfg.ClusterCIDRs {
		if t.has(cidr.Addr()) {
			s = append(s, t.SaddrNotIn(cidr)...)
		}
	}
	return s
}

// distribute adds the rules that translate to one of the chain's endpoints. The registers hold, one after
// the other, the client's address, the number of the chain, and the endpoint's address and port.
func (t *table) distribute(c chain) {
	client := nft.Reg
	number := client + t.slots()
	target := number + 1
	id := nft.Statement{&expr.Immediate{Register: number, Data: native(t.numbers[c.name].id)}}
	// The place among the endpoints stands where the endpoint will: the key is the chain's number and the place.
	place := expr.Any(&expr.Immediate{Register: target, Data: native(0)})
	if n := len(c.endpoints); n > 1 {
		place = &expr.Numgen{Register: target, Type: unix.NFT_NG_RANDOM, Modulus: uint32(n)}
	}
	pick := nft.Rule(id, nft.Statement{place}, nft.DataMap(t.endpoints, number, target))
	dnat := t.DNAT(target, target+t.slots())
	if c.affinityMap() != "" {
		clients := t.clientMap(c)
		remember := nft.Statement{&expr.Dynset{
			SrcRegKey: client, SrcRegData: target, SetName: clients.Name, SetID: clients.ID,
			Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: time.Duration(c.affinity) * time.Second,
		}}
		load := t.LoadSaddr(client)
		t.rule(c.name, load, nft.DataMap(clients, client, target), id, nft.InSet(t.affine, number), remember, dnat)
		t.rule(c.name, load, pick, remember, dnat)
		// A full map of clients ends the rule above; their connections are then as good as any.
	}
	t.rule(c.name, pick, dnat)
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func endpointData(e netip.AddrPort) []byte {
	return nft.ConcatKey(e.Addr().AsSlice(), nft.Port(e.Port()))
}

// maxClients is how many clients of one Service are remembered.
const maxClients = 65535

// clientMap is the map from a client's address to its endpoint. The kernel fills it.
func (t *table) clientMap(c chain) *nftables.Set {
	return &nftables.Set{
		Table: t.table, ID: nft.NextSetID(), Name: c.affinityMap(), IsMap: true, Dynamic: true, HasTimeout: true,
		Timeout: time.Duration(c.affinity) * time.Second, Size: maxClients, KeyType: t.AddrType, DataType: t.endpointType(),
	}
}

func (t *table) endpointType() nftables.SetDatatype {
	return nftables.MustConcatSetType(t.AddrType, nftables.TypeInetService)
}

// forgetClients removes clients that are bound to endpoints which are gone, so that their next connection binds them
// anew. Until then they're balanced like new ones, as the rules don't follow such a binding.
func (t *table) forgetClients(e *edit) error {
	for _, c := range e.stale {
		set := t.clientMap(c)
		elements, err := t.conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("list clients of %s: %w", c.name, err)
		}
		valid := make(map[string]bool, len(c.endpoints))
		for _, ep := range c.endpoints {
			valid[string(endpointData(ep.AddrPort))] = true
		}
		var gone []nftables.SetElement
		for _, el := range elements {
			if !valid[string(el.Val)] {
				gone = append(gone, nftables.SetElement{Key: el.Key})
			}
		}
		if len(gone) == 0 {
			continue
		}
		if err := t.conn.DeleteElements(set, gone); err != nil {
			return err
		}
		if err := t.conn.Commit(); err != nil {
			// A client may have left by itself in between; what stays is harmless.
			t.cfg.Logger.Debug("Could not forget clients of gone endpoints", "chain", c.name, "error", err)
		}
	}
	return nil
}

// numbered is a chain's part of the maps that all chains share.
type numbered struct {
	id uint32
	// places is what the kernel has at each place. The chain may use fewer: those behind are left for packets that
	// drew a place just before the rules changed, until something else takes the place or the chain goes.
	places []netip.AddrPort
	// affine are the endpoints that clients may stay with, if they stay with any.
	affine map[netip.AddrPort]struct{}
}

func (t *table) placeKey(id uint32, place int) []byte {
	return append(native(id), native(uint32(place))...)
}

// place writes the endpoints of a chain. A chain without any gives its places up.
func (e *edit) place(c chain) {
	t := e.table
	n := t.numbers[c.name]
	if n == nil {
		t.lastNumber++
		n = &numbered{id: t.lastNumber}
		t.numbers[c.name] = n
	}
	for i, ep := range c.endpoints {
		if i < len(n.places) {
			if n.places[i] == ep.AddrPort {
				continue
			}
			e.vacated = append(e.vacated, nftables.SetElement{Key: t.placeKey(n.id, i)})
			n.places[i] = ep.AddrPort
		} else {
			n.places = append(n.places, ep.AddrPort)
		}
		e.placed = append(e.placed, nftables.SetElement{Key: t.placeKey(n.id, i), Val: endpointData(ep.AddrPort)})
	}
	e.bind(n, c)
}

// bind writes which endpoints clients may stay with.
func (e *edit) bind(n *numbered, c chain) {
	affine := make(map[netip.AddrPort]struct{})
	if c.affinityMap() != "" {
		for _, ep := range c.endpoints {
			affine[ep.AddrPort] = struct{}{}
		}
	}
	element := func(ep netip.AddrPort) nftables.SetElement {
		return nftables.SetElement{Key: append(native(n.id), endpointData(ep)...)}
	}
	for ep := range n.affine {
		if _, stays := affine[ep]; !stays {
			e.unbound = append(e.unbound, element(ep))
		}
	}
	for ep := range affine {
		if _, there := n.affine[ep]; !there {
			e.bound = append(e.bound, element(ep))
		}
	}
	n.affine = affine
}

// unplace gives up all that a chain has in the shared maps.
func (e *edit) unplace(name string) {
	t := e.table
	n := t.numbers[name]
	if n == nil {
		return
	}
	for i := range n.places {
		e.vacated = append(e.vacated, nftables.SetElement{Key: t.placeKey(n.id, i)})
	}
	e.bind(n, chain{})
	delete(t.numbers, name)
}

// sharedElements writes what place and unplace collected.
func (e *edit) sharedElements() error {
	t := e.table
	for _, step := range []struct {
		do       func(*nftables.Set, []nftables.SetElement) error
		set      *nftables.Set
		elements []nftables.SetElement
	}{
		{t.conn.DeleteElements, t.endpoints, e.vacated},
		{t.conn.AddElements, t.endpoints, e.placed},
		{t.conn.DeleteElements, t.affine, e.unbound},
		{t.conn.AddElements, t.affine, e.bound},
	} {
		if err := step.do(step.set, step.elements); err != nil {
			return err
		}
	}
	return nil
}
