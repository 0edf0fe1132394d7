package network

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
)

var (
	loopback4  = netip.MustParsePrefix("127.0.0.0/8")
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
)

// table is the nftables table of the pod network:
//
//	guard        drops what pods send to the node's 127.0.0.0/8
//	prerouting,
//	output       send what is for the node itself to hostports
//	hostports    translates by the maps {address . protocol . port} and {protocol . port}
//	postrouting  masquerades pods' connections to their own host port, connections that come from
//	             127.0.0.0/8, and, in masquerade, what leaves the cluster
type table struct {
	cfg      Config
	conn     *nft.Conn
	table    *nftables.Table
	masq     *nftables.Chain
	families []*familyMaps
	// published remembers which sandbox has a host port. A port belongs to the last that asked for it.
	published map[portKey]string
}

// familyMaps are the maps of one address family, which differ in the length of addresses.
type familyMaps struct {
	nft.Family
	byAddress *nftables.Set // host address . protocol . port : pod address . port
	byPort    *nftables.Set // protocol . port : pod address . port
	hairpin   *nftables.Set // pod address . pod address
}

type portKey struct {
	v6       bool
	address  netip.Addr // the zero value means every address
	protocol byte
	port     uint16
}

func newTable(conn *nft.Conn, cfg Config) *table {
	t := &table{cfg: cfg, conn: conn, published: make(map[portKey]string)}
	t.table = &nftables.Table{Name: cfg.Table, Family: nftables.TableFamilyINet}
	t.masq = &nftables.Chain{Name: "masquerade", Table: t.table}
	t.families = []*familyMaps{t.newFamily(nft.IPv4, "4"), t.newFamily(nft.IPv6, "6")}
	return t
}

func (t *table) newFamily(f nft.Family, suffix string) *familyMaps {
	backend := nftables.MustConcatSetType(f.AddrType, nftables.TypeInetService)
	set := func(name string, key nftables.SetDatatype, isMap bool) *nftables.Set {
		s := &nftables.Set{Table: t.table, ID: nft.NextSetID(), Name: name + suffix, Concatenation: true, KeyType: key, IsMap: isMap}
		if isMap {
			s.DataType = backend
		}
		return s
	}
	return &familyMaps{
		Family:    f,
		byAddress: set("hostports-by-address", nftables.MustConcatSetType(f.AddrType, nftables.TypeInetProto, nftables.TypeInetService), true),
		byPort:    set("hostports-by-port", nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService), true),
		hairpin:   set("hairpin", nftables.MustConcatSetType(f.AddrType, f.AddrType), false),
	}
}

// reset writes the whole table anew in one transaction.
func (t *table) reset(cidrs []netip.Prefix, leases map[string]*lease) error {
	clear(t.published)
	t.conn.ResetTable(t.table)
	for _, f := range t.families {
		for _, s := range []*nftables.Set{f.byAddress, f.byPort, f.hairpin} {
			if err := t.conn.AddSet(s, nil); err != nil {
				return fmt.Errorf("add set %s: %w", s.Name, err)
			}
		}
	}
	t.conn.AddChain(t.masq)
	t.addRules()
	t.addMasquerade(cidrs)
	if err := t.conn.Commit(); err != nil {
		return fmt.Errorf("write table %s: %w", t.table.Name, err)
	}
	for _, l := range leases {
		if l.Releasing {
			continue
		}
		if err := t.publish(l); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) addRules() {
	guard := t.base("guard", nftables.ChainTypeFilter, *nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	t.rule(guard, nft.InInterfaceGroup(linkGroup(t.cfg)), nft.IPv4.IsFamily(), nft.IPv4.DaddrIn(loopback4), nft.Drop())
	if t.cfg.overlay() {
		t.rule(guard, nft.InInterface(t.cfg.VXLAN.Device), nft.IPv4.IsFamily(), nft.IPv4.DaddrIn(loopback4), nft.Drop())
	}

	hostports := t.conn.AddChain(&nftables.Chain{Name: "hostports", Table: t.table})
	for _, f := range t.families {
		a := nft.Slots(f.AddrLen)
		t.rule(hostports, f.IsFamily(), f.LoadDaddr(nft.Reg), nft.LoadProtocol(nft.Reg+a), nft.LoadDport(nft.Reg+a+1),
			nft.DataMap(f.byAddress, nft.Reg, nft.Reg), f.DNAT(nft.Reg, nft.Reg+a))
		t.rule(hostports, f.IsFamily(), nft.LoadProtocol(nft.Reg), nft.LoadDport(nft.Reg+1),
			nft.DataMap(f.byPort, nft.Reg, nft.Reg), f.DNAT(nft.Reg, nft.Reg+a))
	}
	prerouting := t.base("prerouting", nftables.ChainTypeNAT, *nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	t.rule(prerouting, nft.DaddrIsLocal(), nft.Jump(hostports.Name))
	output := t.base("output", nftables.ChainTypeNAT, *nftables.ChainHookOutput, *nftables.ChainPriorityNATDest)
	t.rule(output, nft.DaddrIsLocal(), nft.Jump(hostports.Name))

	post := t.base("postrouting", nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	for _, f := range t.families {
		t.rule(post, f.IsFamily(), nft.WasDNATed(), f.LoadSaddr(nft.Reg), f.LoadDaddr(nft.Reg+nft.Slots(f.AddrLen)),
			nft.InSet(f.hairpin, nft.Reg), nft.Masquerade())
	}
	t.rule(post, nft.IPv4.IsFamily(), nft.WasDNATed(), nft.IPv4.SaddrIn(loopback4), nft.OutInterfaceNot("lo"), nft.Masquerade())
	t.rule(post, nft.Jump(t.masq.Name))
}

func (t *table) base(name string, kind nftables.ChainType, hook nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind, Hooknum: &hook, Priority: &priority})
}

func (t *table) rule(c *nftables.Chain, parts ...nft.Statement) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: nft.Rule(parts...)})
}

// setPodCIDRs replaces the masquerading rules.
func (t *table) setPodCIDRs(cidrs []netip.Prefix) error {
	t.conn.FlushChain(t.masq)
	t.addMasquerade(cidrs)
	if err := t.conn.Commit(); err != nil {
		return fmt.Errorf("write masquerading rules: %w", err)
	}
	return nil
}

func (t *table) addMasquerade(cidrs []netip.Prefix) {
	inside := append([]netip.Prefix{multicast4, multicast6}, t.cfg.ClusterCIDRs...)
	for _, dst := range append(inside, cidrs...) {
		f := nft.FamilyOf(dst.Addr())
		t.rule(t.masq, f.IsFamily(), f.DaddrIn(dst), nft.Return())
	}
	for _, src := range cidrs {
		f := nft.FamilyOf(src.Addr())
		t.rule(t.masq, f.IsFamily(), f.SaddrIn(src), nft.Masquerade())
	}
	for _, src := range t.cfg.Masquerade {
		f := nft.FamilyOf(src.Addr())
		t.rule(t.masq, f.IsFamily(), f.SaddrIn(src), f.DaddrNotIn(src), nft.Masquerade())
	}
}

// publish sends the lease's host ports to its pod.
func (t *table) publish(l *lease) error {
	changed := false
	for _, a := range l.Addresses {
		f := t.family(a)
		for _, p := range l.HostPorts {
			key, ok := hostPortKey(p, a)
			if !ok {
				continue
			}
			value := nft.ConcatKey(a.AsSlice(), nft.Port(p.ContainerPort))
			set, element := f.element(key)
			if _, taken := t.published[key]; taken {
				if err := t.conn.DeleteElements(set, []nftables.SetElement{{Key: element}}); err != nil {
					return err
				}
			}
			if err := t.conn.AddElements(set, []nftables.SetElement{{Key: element, Val: value}}); err != nil {
				return err
			}
			t.published[key] = l.SandboxID
			changed = true
		}
		if !changed {
			continue
		}
		if err := t.conn.AddElements(f.hairpin, []nftables.SetElement{{Key: nft.ConcatKey(a.AsSlice(), a.AsSlice())}}); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if err := t.conn.Commit(); err != nil {
		return fmt.Errorf("publish host ports of %s/%s: %w", l.Namespace, l.Name, err)
	}
	return nil
}

// unpublish takes back what publish did, as far as it still belongs to the lease.
func (t *table) unpublish(l *lease) error {
	var mine []portKey
	for _, a := range l.Addresses {
		f := t.family(a)
		before := len(mine)
		for _, p := range l.HostPorts {
			key, ok := hostPortKey(p, a)
			if !ok || t.published[key] != l.SandboxID {
				continue
			}
			set, element := f.element(key)
			if err := t.conn.DeleteElements(set, []nftables.SetElement{{Key: element}}); err != nil {
				return err
			}
			delete(t.published, key)
			mine = append(mine, key)
		}
		if len(mine) == before {
			continue
		}
		// Adding before deleting makes it no error when the element is absent.
		pair := []nftables.SetElement{{Key: nft.ConcatKey(a.AsSlice(), a.AsSlice())}}
		if err := t.conn.AddElements(f.hairpin, pair); err != nil {
			return err
		}
		if err := t.conn.DeleteElements(f.hairpin, pair); err != nil {
			return err
		}
	}
	if len(mine) == 0 {
		return nil
	}
	if err := t.conn.Commit(); err != nil {
		for _, key := range mine {
			t.published[key] = l.SandboxID
		}
		return fmt.Errorf("take back host ports of %s/%s: %w", l.Namespace, l.Name, err)
	}
	return nil
}

func (t *table) family(a netip.Addr) *familyMaps {
	if a.Is6() {
		return t.families[1]
	}
	return t.families[0]
}

func (f *familyMaps) element(k portKey) (*nftables.Set, []byte) {
	if k.address.IsValid() {
		return f.byAddress, nft.ConcatKey(k.address.AsSlice(), []byte{k.protocol}, nft.Port(k.port))
	}
	return f.byPort, nft.ConcatKey([]byte{k.protocol}, nft.Port(k.port))
}

// hostPortKey returns where a host port is published for the pod's address; false if it isn't for that family.
func hostPortKey(p HostPort, pod netip.Addr) (portKey, bool) {
	proto, known := protocolNumbers[p.Protocol]
	if !known || p.HostPort == 0 {
		return portKey{}, false
	}
	k := portKey{v6: pod.Is6(), protocol: proto, port: p.HostPort}
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		k.address = p.HostIP.Unmap()
	}
	if p.HostIP.IsValid() && p.HostIP.Unmap().Is6() != pod.Is6() {
		return portKey{}, false
	}
	return k, true
}

var protocolNumbers = map[string]byte{"": unix.IPPROTO_TCP, "TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP, "SCTP": unix.IPPROTO_SCTP}
