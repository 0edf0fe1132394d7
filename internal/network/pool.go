package network

import (
	"fmt"
	"net/netip"
)

// pool hands out the addresses of one range. The network address, the gateway and, for IPv4, the
// broadcast address are never given. It goes round, so an address rests as long as possible before it is used again.
type pool struct {
	cidr netip.Prefix
	used map[netip.Addr]struct{}
	last netip.Addr
}

func newPool(cidr netip.Prefix) *pool {
	cidr = cidr.Masked()
	return &pool{cidr: cidr, used: make(map[netip.Addr]struct{}), last: gateway(cidr)}
}

// gateway returns the range's first host address, which the bridge has.
func gateway(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// reserve marks an address as used.
func (p *pool) reserve(a netip.Addr) {
	p.used[a] = struct{}{}
	if p.last.Less(a) && p.cidr.Contains(a) {
		p.last = a
	}
}

func (p *pool) release(a netip.Addr) { delete(p.used, a) }

func (p *pool) allocate() (netip.Addr, error) {
	candidate := p.last
	// Every address that is refused is either used or one of three special ones, so this ends.
	for range len(p.used) + 4 {
		candidate = candidate.Next()
		if !candidate.IsValid() || !p.cidr.Contains(candidate) {
			candidate = gateway(p.cidr).Next()
		}
		if _, taken := p.used[candidate]; taken || !p.usable(candidate) {
			continue
		}
		p.used[candidate] = struct{}{}
		p.last = candidate
		return candidate, nil
	}
	return netip.Addr{}, fmt.Errorf("no free address in %s: %d are in use", p.cidr, len(p.used))
}

func (p *pool) usable(a netip.Addr) bool {
	if !p.cidr.Contains(a) || a == p.cidr.Addr() || a == gateway(p.cidr) {
		return false
	}
	return !a.Is4() || p.cidr.Contains(a.Next()) // the last one is the broadcast address
}
