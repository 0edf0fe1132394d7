package nftables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
	"clipper.dev/clipper/internal/proxy"
)

// The chains that packets without an endpoint end in.
const (
	rejectChain = "reject"
	dropChain   = "drop"
)

// table is the table of one address family.
type table struct {
	nft.Family
	cfg   Config
	conn  *nft.Conn
	table *nftables.Table

	serviceIPs, serviceNodePorts       *nftables.Set // verdict maps to chains of services
	noEndpointIPs, noEndpointNodePorts *nftables.Set // verdict maps to reject or drop
	hairpin                            *nftables.Set // {address . the same address} of endpoints on this node
	endpoints                          *nftables.Set // {address . protocol . port . place} : endpoint, for shared chains

	// ports is what was asked for last; valid says whether the kernel has exactly that.
	ports map[proxy.Key]*rendered
	valid bool
	// dropped says that the kernel has no table, as there is nothing for this family.
	dropped bool
	// locals counts in how many ports an address of this node is an endpoint.
	locals map[netip.Addr]int
	claims *claims
	shared map[shared]bool // which shared chains there are; they stay until everything is written anew
	lists  map[listRef]*places
}

func newTable(conn *nft.Conn, f nft.Family, cfg Config) *table {
	t := &table{Family: f, cfg: cfg, conn: conn, ports: make(map[proxy.Key]*rendered), locals: make(map[netip.Addr]int)}
	t.table = &nftables.Table{Name: cfg.Table, Family: f.Table}
	byAddress := nftables.MustConcatSetType(f.AddrType, nftables.TypeInetProto, nftables.TypeInetService)
	byPort := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	vmap := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t.table, ID: nft.NextSetID(), Name: name, Concatenation: true, KeyType: key, IsMap: true, DataType: nftables.TypeVerdict}
	}
	t.serviceIPs, t.serviceNodePorts = vmap("service-ips", byAddress), vmap("service-nodeports", byPort)
	t.noEndpointIPs, t.noEndpointNodePorts = vmap("no-endpoint-ips", byAddress), vmap("no-endpoint-nodeports", byPort)
	t.hairpin = &nftables.Set{Table: t.table, ID: nft.NextSetID(), Name: "hairpin", Concatenation: true, KeyType: nftables.MustConcatSetType(f.AddrType, f.AddrType)}
	t.endpoints = &nftables.Set{Table: t.table, ID: nft.NextSetID(), Name: "endpoints", Concatenation: true, IsMap: true, DataType: t.endpointType(),
		KeyType: nftables.MustConcatSetType(f.AddrType, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark)}
	return t
}

// sync puts the changes into effect, or everything if the kernel's state isn't known to be right.
func (t *table) sync(changes []proxy.Change) error {
	if t.valid && len(changes) == 0 {
		there, err := t.conn.HasTable(t.table)
		if err != nil || there {
			return err
		}
		t.cfg.Logger.Warn("Something has removed the services' table; writing it again", "table", t.table.Name)
		t.valid = false
	}
	edit := newEdit(t)
	next := make(map[proxy.Key]*rendered, len(changes))
	for _, c := range changes {
		next[c.Key()] = render(c.New)
	}
	if !t.wanted(next) {
		return t.drop()
	}
	if t.valid {
		for key, r := range next {
			edit.replace(t.ports[key], r)
		}
		t.keep(next)
	} else {
		t.keep(next)
		var err error
		if edit.keepClients, err = t.conn.SetNames(t.table); err != nil {
			return err
		}
		t.claims, t.locals = newClaims(), make(map[netip.Addr]int)
		t.shared, t.lists = make(map[shared]bool), make(map[listRef]*places)
		t.addBase()
		for _, key := range slices.SortedFunc(maps.Keys(t.ports), compareKeys) {
			edit.replace(nil, t.ports[key])
		}
	}
	// The kernel's state is unknown from here on, until a transaction has succeeded.
	t.valid = false
	locals, err := edit.apply()
	if err != nil {
		return err
	}
	if err := t.conn.Commit(); err != nil {
		return fmt.Errorf("write table %s: %w", t.table.Name, err)
	}
	t.locals, t.valid, t.dropped = locals, true, false
	return t.forgetClients(edit)
}

// wanted tells whether there is anything to do for the family, once next is put into effect. A cluster of IPv4 alone
// shall not have every IPv6 packet pass its rules.
func (t *table) wanted(next map[proxy.Key]*rendered) bool {
	for _, cidr := range t.cfg.ServiceCIDRs {
		if t.has(cidr.Addr()) {
			return true
		}
	}
	for _, r := range next {
		if r != nil {
			return true
		}
	}
	for key := range t.ports {
		if _, changes := next[key]; !changes {
			return true
		}
	}
	return false
}

// drop removes the table, which an earlier process may have left.
func (t *table) drop() error {
	clear(t.ports)
	t.valid = false // whatever comes next is written as a whole
	if t.dropped {
		return nil
	}
	if err := t.conn.DropTable(t.table); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("remove table %s: %w", t.table.Name, err)
	}
	t.dropped = true
	return nil
}

func (t *table) keep(next map[proxy.Key]*rendered) {
	for key, r := range next {
		if r == nil {
			delete(t.ports, key)
			continue
		}
		t.ports[key] = r
	}
}

func compareKeys(a, b proxy.Key) int {
	switch {
	case chainSuffix(a) < chainSuffix(b):
		return -1
	case chainSuffix(a) > chainSuffix(b):
		return 1
	}
	return 0
}

// addBase makes the table anew with everything that doesn't depend on Services.
func (t *table) addBase() {
	t.conn.ResetTable(t.table)
	for _, name := range []string{rejectChain, dropChain} {
		t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table})
	}
	for _, s := range []*nftables.Set{t.serviceIPs, t.serviceNodePorts, t.noEndpointIPs, t.noEndpointNodePorts, t.hairpin, t.endpoints} {
		// Adding a set without elements can't fail.
		_ = t.conn.AddSet(s, nil)
	}
	for _, s := range t.RejectPort() {
		t.rule(rejectChain, s)
	}
	t.rule(dropChain, nft.Drop())
	t.addTranslation()
	t.addRejection()
	post := t.base("postrouting", nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	t.rule(post, nft.WasDNATed(), t.LoadSaddr(nft.Reg), t.LoadDaddr(nft.Reg+t.slots()), nft.InSet(t.hairpin, nft.Reg), nft.Masquerade())
	t.rule(post, nft.MarkHas(t.cfg.MasqueradeMark), nft.ClearMark(t.cfg.MasqueradeMark), nft.Masquerade())
}

func (t *table) addTranslation() {
	const services = "services"
	t.conn.AddChain(&nftables.Chain{Name: services, Table: t.table})
	t.rule(services, t.loadAddressKey(), nft.VerdictMap(t.serviceIPs, nft.Reg))
	t.rule(services, nft.DaddrIsLocal(), t.loadPortKey(), nft.VerdictMap(t.serviceNodePorts, nft.Reg))
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		t.rule(t.base(name, nftables.ChainTypeNAT, *hook, *nftables.ChainPriorityNATDest), nft.Jump(services))
	}
}

func (t *table) addRejection() {
	const noEndpoints, strangers = "no-endpoints", "no-service"
	t.conn.AddChain(&nftables.Chain{Name: noEndpoints, Table: t.table})
	t.rule(noEndpoints, t.loadAddressKey(), nft.VerdictMap(t.noEndpointIPs, nft.Reg))
	t.rule(noEndpoints, nft.DaddrIsLocal(), t.loadPortKey(), nft.VerdictMap(t.noEndpointNodePorts, nft.Reg))
	t.conn.AddChain(&nftables.Chain{Name: strangers, Table: t.table})
	for _, cidr := range t.cfg.ServiceCIDRs {
		if t.has(cidr.Addr()) {
			t.rule(strangers, t.DaddrIn(cidr), nft.DaddrIsNotLocal(), nft.Goto(rejectChain))
		}
	}
	priority := *nftables.ChainPriorityFilter
	input := t.base("input", nftables.ChainTypeFilter, *nftables.ChainHookInput, priority)
	forward := t.base("forward", nftables.ChainTypeFilter, *nftables.ChainHookForward, priority)
	output := t.base("output-filter", nftables.ChainTypeFilter, *nftables.ChainHookOutput, priority)
	for _, chain := range []string{input, forward, output} {
		t.rule(chain, nft.StateNew(), nft.WasNotDNATed(), nft.Jump(noEndpoints))
	}
	for _, chain := range []string{forward, output} {
		t.rule(chain, nft.StateNew(), nft.WasNotDNATed(), nft.Jump(strangers))
	}
}

func (t *table) base(name string, kind nftables.ChainType, hook nftables.ChainHook, priority nftables.ChainPriority) string {
	t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind, Hooknum: &hook, Priority: &priority})
	return name
}

func (t *table) rule(chain string, parts ...nft.Statement) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: &nftables.Chain{Name: chain, Table: t.table}, Exprs: nft.Rule(parts...)})
}

// slots is how many registers an address takes.
func (t *table) slots() uint32 { return nft.Slots(t.AddrLen) }

func (t *table) has(a netip.Addr) bool { return a.Is6() == (t.AddrLen == 16) }

func (t *table) loadAddressKey() nft.Statement {
	a := t.slots()
	return nft.Rule(t.LoadDaddr(nft.Reg), nft.LoadProtocol(nft.Reg+a), nft.LoadDport(nft.Reg+a+1))
}

func (t *table) loadPortKey() nft.Statement {
	return nft.Rule(nft.LoadProtocol(nft.Reg), nft.LoadDport(nft.Reg+1))
}

func protocolNumber(key proxy.Key) byte {
	switch key.Protocol {
	case "UDP":
		return unix.IPPROTO_UDP
	case "SCTP":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
