package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
	"clipper.dev/clipper/internal/proxy"
)

// largestConstantMap is how many endpoints fit into the message that makes a map together with its elements.
const largestConstantMap = 1000

// writeChain adds the rules of a chain, which is empty.
func (t *table) writeChain(c chain) error {
	mark := nft.SetMark(t.cfg.MasqueradeMark)
	switch c.masquerade {
	case everybody:
		t.rule(c.name, mark)
	case outsiders:
		if t.clusterCIDRs() > 0 {
			t.rule(c.name, t.notFromCluster(), mark)
		}
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
	if len(c.ranges) > 0 {
		t.rule(c.name, nft.Drop())
		return nil
	}
	if c.next != "" {
		t.rule(c.name, nft.Goto(c.next))
		return nil
	}
	return t.distribute(c)
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

// distribute adds the rules that translate to one of the endpoints.
func (t *table) distribute(c chain) error {
	// An endpoint stands in the registers after the client's address.
	client, target := nft.Reg, nft.Reg+t.slots()
	dnat := t.DNAT(target, target+t.slots())
	switch len(c.endpoints) {
	case 0:
		return nil
	case 1:
		t.rule(c.name, t.loadEndpoint(c.endpoints[0].AddrPort, target), dnat)
		return nil
	}
	pick, err := t.pick(c.endpoints, target)
	if err != nil {
		return err
	}
	if c.affinityMap() == "" {
		t.rule(c.name, pick, dnat)
		return nil
	}
	valid, err := t.endpointSet(c.endpoints)
	if err != nil {
		return err
	}
	clients := t.clientMap(c)
	remember := nft.Statement{&expr.Dynset{
		SrcRegKey: client, SrcRegData: target, SetName: clients.Name, SetID: clients.ID,
		Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: time.Duration(c.affinity) * time.Second,
	}}
	load := t.LoadSaddr(client)
	t.rule(c.name, load, nft.DataMap(clients, client, target), nft.InSet(valid, target), remember, dnat)
	t.rule(c.name, load, pick, remember, dnat)
	// A full map of clients ends the rule above; their connections are then as good as any.
	again, err := t.pick(c.endpoints, target)
	if err != nil {
		return err
	}
	t.rule(c.name, again, dnat)
	return nil
}

func (t *table) loadEndpoint(e netip.AddrPort, reg uint32) nft.Statement {
	return nft.Statement{
		&expr.Immediate{Register: reg, Data: e.Addr().AsSlice()},
		&expr.Immediate{Register: reg + t.slots(), Data: nft.Port(e.Port())},
	}
}

func (t *table) endpointType() nftables.SetDatatype {
	return nftables.MustConcatSetType(t.AddrType, nftables.TypeInetService)
}

func endpointData(e proxy.Endpoint) []byte {
	return nft.ConcatKey(e.Addr().AsSlice(), nft.Port(e.Port()))
}

// pick chooses an endpoint at random: a number indexes a map that belongs to the rule.
func (t *table) pick(endpoints []proxy.Endpoint, target uint32) (nft.Statement, error) {
	set := &nftables.Set{
		Table: t.table, ID: nft.NextSetID(), Name: "__map%d", Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.NativeEndian, DataType: t.endpointType(),
	}
	elements := make([]nftables.SetElement, len(endpoints))
	for i, e := range endpoints {
		elements[i] = nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(i)), Val: endpointData(e)}
	}
	if err := t.addConstant(set, elements); err != nil {
		return nil, err
	}
	number := &expr.Numgen{Register: target, Type: unix.NFT_NG_RANDOM, Modulus: uint32(len(endpoints))}
	return append(nft.Statement{number}, nft.DataMap(set, target, target)...), nil
}

// endpointSet makes a set of the endpoints that belongs to the rule which uses it.
func (t *table) endpointSet(endpoints []proxy.Endpoint) (*nftables.Set, error) {
	set := &nftables.Set{
		Table: t.table, ID: nft.NextSetID(), Name: "__set%d", Anonymous: true, Constant: true,
		Concatenation: true, KeyType: t.endpointType(),
	}
	elements := make([]nftables.SetElement, len(endpoints))
	for i, e := range endpoints {
		elements[i] = nftables.SetElement{Key: endpointData(e)}
	}
	return set, t.addConstant(set, elements)
}

func (t *table) addConstant(set *nftables.Set, elements []nftables.SetElement) error {
	if len(elements) <= largestConstantMap {
		if err := t.conn.AddSet(set, elements); err != nil {
			return fmt.Errorf("add a set of %d endpoints: %w", len(elements), err)
		}
		return nil
	}
	if err := t.conn.AddSet(set, nil); err != nil {
		return fmt.Errorf("add a set of %d endpoints: %w", len(elements), err)
	}
	// The library refuses to add to a set without a name. The kernel finds it by the ID that it has in this transaction.
	open := *set
	open.Anonymous = false
	return t.conn.AddElements(&open, elements)
}

// clientMap is the map from a client's address to its endpoint. The kernel fills it.
func (t *table) clientMap(c chain) *nftables.Set {
	return &nftables.Set{
		Table: t.table, ID: nft.NextSetID(), Name: c.affinityMap(), IsMap: true, Dynamic: true, HasTimeout: true,
		Timeout: time.Duration(c.affinity) * time.Second, Size: maxClients, KeyType: t.AddrType, DataType: t.endpointType(),
	}
}

// maxClients is how many clients of one Service are remembered.
const maxClients = 65535

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
			valid[string(endpointData(ep))] = true
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
