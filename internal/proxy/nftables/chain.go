package nftables

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
)

const (
	// largestConstantMap is how many endpoints fit into the message that makes a map together with its elements.
	largestConstantMap = 1000
	// maxClients is how many clients of one chain are remembered.
	maxClients = 65535
)

// writeChain adds the rules of a service port's own chain, which is empty.
func (t *table) writeChain(c chain) error {
	t.masquerade(c.name, c.masquerade)
	if c.insiders != "" {
		for _, cidr := range t.cfg.ClusterCIDRs {
			if t.has(cidr.Addr()) {
				t.rule(c.name, t.SaddrIn(cidr), nft.Goto(c.insiders))
			}
		}
		t.rule(c.name, nft.SaddrIsLocal(), nft.SetMark(t.cfg.MasqueradeMark))
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
		return t.distribute(c)
	}
	return nil
}

// masquerade marks the connections that get an address of the node's.
func (t *table) masquerade(chain string, who masquerade) {
	mark := nft.SetMark(t.cfg.MasqueradeMark)
	switch who {
	case everybody:
		t.rule(chain, mark)
	case outsiders:
		if notPods := t.notFromCluster(); len(notPods) > 0 {
			t.rule(chain, notPods, mark)
		}
	}
}

// notFromCluster matches sources outside of all pods' addresses. It's empty if those aren't known.
func (t *table) notFromCluster() nft.Statement {
	var s nft.Statement
	for _, cidr := range t.cfg.ClusterCIDRs {
		if t.has(cidr.Addr()) {
			s = append(s, t.SaddrNotIn(cidr)...)
		}
	}
	return s
}

// distribute adds the rules that translate to one of the chain's endpoints, the same one as long as a client
// is remembered. The registers hold the client's address and then the endpoint's address and port.
func (t *table) distribute(c chain) error {
	client, target := nft.Reg, nft.Reg+t.slots()
	dnat := t.DNAT(target, target+t.slots())
	valid, err := t.constant(c.endpoints, false)
	if err != nil {
		return err
	}
	choices, err := t.constant(c.endpoints, true)
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
	pick := nft.Rule(random(target, len(c.endpoints), 0), nft.DataMap(choices, target, target))
	t.rule(c.name, load, pick, remember, dnat)
	// A full map of clients ends the rule above; their connections are then as good as any.
	if choices, err = t.constant(c.endpoints, true); err != nil {
		return err
	}
	t.rule(c.name, random(target, len(c.endpoints), 0), nft.DataMap(choices, target, target), dnat)
	return nil
}

// constant makes a set of endpoints, or a map from numbers to them, that belongs to the one rule which uses it.
func (t *table) constant(endpoints []endpointData, numbered bool) (*nftables.Set, error) {
	set := &nftables.Set{Table: t.table, ID: nft.NextSetID(), Name: "__set%d", Anonymous: true, Constant: true, Concatenation: true, KeyType: t.endpointType()}
	if numbered {
		set.Name, set.IsMap, set.Concatenation, set.DataType = "__map%d", true, false, set.KeyType
		set.KeyType, set.KeyByteOrder = nftables.TypeInteger, binaryutil.NativeEndian
	}
	elements := make([]nftables.SetElement, len(endpoints))
	for i, e := range endpoints {
		elements[i] = nftables.SetElement{Key: []byte(e)}
		if numbered {
			elements[i] = nftables.SetElement{Key: native(uint32(i)), Val: []byte(e)}
		}
	}
	if len(elements) <= largestConstantMap {
		if err := t.conn.AddSet(set, elements); err != nil {
			return nil, fmt.Errorf("add a set of %d endpoints: %w", len(elements), err)
		}
		return set, nil
	}
	if err := t.conn.AddSet(set, nil); err != nil {
		return nil, fmt.Errorf("add a set of %d endpoints: %w", len(elements), err)
	}
	// The library refuses to add to a set without a name. The kernel finds it by the ID that it has in this transaction.
	open := *set
	open.Anonymous = false
	return set, t.conn.AddElements(&open, elements)
}

// clientMap is the map from a client's address to its endpoint. The kernel fills it.
func (t *table) clientMap(c chain) *nftables.Set {
	return &nftables.Set{
		Table: t.table, ID: nft.NextSetID(), Name: c.clients(), IsMap: true, Dynamic: true, HasTimeout: true,
		Timeout: time.Duration(c.affinity) * time.Second, Size: maxClients, KeyType: t.AddrType, DataType: t.endpointType(),
	}
}

// forgetClients removes clients that are bound to endpoints which are gone, so that their next connection binds them
// anew. Until then they're balanced like new ones, as the rules don't follow such a binding.
func (t *table) forgetClients(e *edit) error {
	for _, c := range e.stale {
		set := t.clientMap(c)
		elements, err := t.conn.Elements(set)
		if err != nil {
			return err
		}
		valid := make(map[endpointData]bool, len(c.endpoints))
		for _, ep := range c.endpoints {
			valid[ep] = true
		}
		var gone []nftables.SetElement
		for _, el := range elements {
			if !valid[endpointData(el.Val)] {
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

func (t *table) endpointType() nftables.SetDatatype {
	return nftables.MustConcatSetType(t.AddrType, nftables.TypeInetService)
}

// random puts a number from offset on, below offset+count, into the register.
func random(reg uint32, count, offset int) nft.Statement {
	if count == 1 {
		return immediate(reg, native(uint32(offset)))
	}
	return nft.Statement{&expr.Numgen{Register: reg, Type: unix.NFT_NG_RANDOM, Modulus: uint32(count), Offset: uint32(offset)}}
}

func immediate(reg uint32, data []byte) nft.Statement {
	return nft.Statement{&expr.Immediate{Register: reg, Data: data}}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
