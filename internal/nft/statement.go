package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers hold four bytes each when numbered from Reg on. Register 1 of sixteen bytes is Reg to Reg+3.
const Reg uint32 = unix.NFT_REG32_00

// Statement is a list of kernel expressions that belong together.
type Statement = []expr.Any

// Rule joins statements to the body of a rule.
func Rule(parts ...Statement) Statement { return slices.Concat(parts...) }

// Slots returns how many four-byte registers n bytes take.
func Slots(n uint32) uint32 { return (n + 3) / 4 }

// Family is what differs between IPv4 and IPv6.
type Family struct {
	Table    nftables.TableFamily
	NFProto  uint32
	AddrType nftables.SetDatatype
	AddrLen  uint32
	saddr    uint32
	daddr    uint32
}

// The two families.
var (
	IPv4 = Family{Table: nftables.TableFamilyIPv4, NFProto: unix.NFPROTO_IPV4, AddrType: nftables.TypeIPAddr, AddrLen: 4, saddr: 12, daddr: 16}
	IPv6 = Family{Table: nftables.TableFamilyIPv6, NFProto: unix.NFPROTO_IPV6, AddrType: nftables.TypeIP6Addr, AddrLen: 16, saddr: 8, daddr: 24}
)

// FamilyOf returns the address's family.
func FamilyOf(a netip.Addr) Family {
	if a.Is6() {
		return IPv6
	}
	return IPv4
}

// LoadSaddr puts the source address into registers from reg on.
func (f Family) LoadSaddr(reg uint32) Statement {
	return payload(expr.PayloadBaseNetworkHeader, f.saddr, f.AddrLen, reg)
}

// LoadDaddr puts the destination address into registers from reg on.
func (f Family) LoadDaddr(reg uint32) Statement {
	return payload(expr.PayloadBaseNetworkHeader, f.daddr, f.AddrLen, reg)
}

// LoadProtocol puts the transport protocol into the register.
func LoadProtocol(reg uint32) Statement {
	return Statement{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}}
}

// LoadDport puts the transport destination port into the register.
func LoadDport(reg uint32) Statement { return payload(expr.PayloadBaseTransportHeader, 2, 2, reg) }

func payload(base expr.PayloadBase, offset, length, reg uint32) Statement {
	return Statement{&expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}}
}

// IsFamily matches packets of the family, for tables that hold both.
func (f Family) IsFamily() Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{byte(f.NFProto)}},
	}
}

// SaddrIn matches a source address within the prefix.
func (f Family) SaddrIn(p netip.Prefix) Statement { return f.in(f.saddr, p, expr.CmpOpEq) }

// SaddrNotIn matches a source address outside of the prefix.
func (f Family) SaddrNotIn(p netip.Prefix) Statement { return f.in(f.saddr, p, expr.CmpOpNeq) }

// DaddrIn matches a destination address within the prefix.
func (f Family) DaddrIn(p netip.Prefix) Statement { return f.in(f.daddr, p, expr.CmpOpEq) }

// DaddrNotIn matches a destination address outside of the prefix.
func (f Family) DaddrNotIn(p netip.Prefix) Statement { return f.in(f.daddr, p, expr.CmpOpNeq) }

func (f Family) in(offset uint32, p netip.Prefix, op expr.CmpOp) Statement {
	mask := make([]byte, f.AddrLen)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(payload(expr.PayloadBaseNetworkHeader, offset, f.AddrLen, Reg),
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: f.AddrLen, Mask: mask, Xor: make([]byte, f.AddrLen)},
		&expr.Cmp{Op: op, Register: Reg, Data: p.Masked().Addr().AsSlice()})
}

// DaddrIsLocal matches a destination address that is the machine's own.
func DaddrIsLocal() Statement { return addrType(false, expr.CmpOpEq) }

// DaddrIsNotLocal matches a destination address that isn't the machine's own.
func DaddrIsNotLocal() Statement { return addrType(false, expr.CmpOpNeq) }

// SaddrIsLocal matches a source address that is the machine's own.
func SaddrIsLocal() Statement { return addrType(true, expr.CmpOpEq) }

func addrType(source bool, op expr.CmpOp) Statement {
	return Statement{
		&expr.Fib{Register: Reg, ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: op, Register: Reg, Data: native(unix.RTN_LOCAL)},
	}
}

// InInterface matches packets that came in through the interface.
func InInterface(name string) Statement { return ifname(expr.MetaKeyIIFNAME, expr.CmpOpEq, name) }

// InInterfaceGroup matches packets that came in through an interface of the group.
func InInterfaceGroup(group uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: native(group)},
	}
}

// OutInterfaceNot matches packets that leave through another interface.
func OutInterfaceNot(name string) Statement { return ifname(expr.MetaKeyOIFNAME, expr.CmpOpNeq, name) }

func ifname(key expr.MetaKey, op expr.CmpOp, name string) Statement {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return Statement{&expr.Meta{Key: key, Register: Reg}, &expr.Cmp{Op: op, Register: Reg, Data: b}}
}

// StateNew matches the first packet of a connection.
func StateNew() Statement { return ctBits(expr.CtKeySTATE, expr.CtStateBitNEW) }

// WasDNATed matches packets of connections whose destination was translated.
func WasDNATed() Statement { return ctBits(expr.CtKeySTATUS, 1<<5) } // IPS_DST_NAT

// WasNotDNATed matches packets of connections whose destination is the original one.
func WasNotDNATed() Statement {
	s := WasDNATed()
	s[2].(*expr.Cmp).Op = expr.CmpOpEq
	return s
}

func ctBits(key expr.CtKey, bits uint32) Statement {
	return Statement{
		&expr.Ct{Key: key, Register: Reg},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4, Mask: native(bits), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: native(0)},
	}
}

// MarkHas matches packets whose mark has one of the bits.
func MarkHas(bits uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: Reg},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4, Mask: native(bits), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: native(0)},
	}
}

// SetMark sets bits of the packet's mark.
func SetMark(bits uint32) Statement { return changeMark(^bits, bits) }

// ClearMark clears bits of the packet's mark.
func ClearMark(bits uint32) Statement { return changeMark(^bits, 0) }

func changeMark(mask, xor uint32) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: Reg},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4, Mask: native(mask), Xor: native(xor)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: Reg},
	}
}

// IsProtocol matches the transport protocol.
func IsProtocol(proto byte) Statement {
	return append(LoadProtocol(Reg), &expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{proto}})
}

// Drop discards the packet.
func Drop() Statement { return verdict(expr.VerdictDrop, "") }

// Return goes back to the calling chain.
func Return() Statement { return verdict(expr.VerdictReturn, "") }

// Jump calls the chain.
func Jump(chain string) Statement { return verdict(expr.VerdictJump, chain) }

// Goto continues in the chain and never returns to this one.
func Goto(chain string) Statement { return verdict(expr.VerdictGoto, chain) }

func verdict(kind expr.VerdictKind, chain string) Statement {
	return Statement{&expr.Verdict{Kind: kind, Chain: chain}}
}

// Masquerade gives the packet the outgoing interface's address as its source.
func Masquerade() Statement { return Statement{&expr.Masq{FullyRandom: true}} }

// DNAT sends the packet to the address in registers from addrReg on and the port in portReg.
func (f Family) DNAT(addrReg, portReg uint32) Statement {
	return Statement{&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.NFProto, RegAddrMin: addrReg, RegProtoMin: portReg, Specified: true}}
}

// RejectPort answers that nothing listens on the port: a reset for TCP, port unreachable for others.
func (f Family) RejectPort() []Statement {
	code := uint8(3) // ICMP port unreachable
	if f.Table == nftables.TableFamilyIPv6 {
		code = 4 // ICMPv6 port unreachable
	}
	return []Statement{
		append(IsProtocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}),
		{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}},
	}
}

// VerdictMap looks the registers from reg on up and follows the verdict; without one the rule ends.
func VerdictMap(set *nftables.Set, reg uint32) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg, DestRegister: 0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID}}
}

// DataMap looks the registers from reg on up and puts the value into registers from dest on; without one the rule ends.
func DataMap(set *nftables.Set, reg, dest uint32) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg, DestRegister: dest, IsDestRegSet: true, SetName: set.Name, SetID: set.ID}}
}

// InSet matches when the registers from reg on are an element.
func InSet(set *nftables.Set, reg uint32) Statement {
	return Statement{&expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID}}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// ConcatKey lays fields out as registers hold them: each padded to four bytes.
func ConcatKey(fields ...[]byte) []byte {
	var key []byte
	for _, f := range fields {
		key = append(key, f...)
		for len(key)%4 != 0 {
			key = append(key, 0)
		}
	}
	return key
}

// Port returns a port as it stands in a packet.
func Port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
