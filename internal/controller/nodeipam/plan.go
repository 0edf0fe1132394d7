package nodeipam

import (
	"fmt"
	"net/netip"
)

// pool is one address family's range and what is taken of it.
type pool struct {
	cidr  netip.Prefix
	bits  int               // of a node's range
	taken map[uint64]string // number of a node's range, and the node that has it
	next  uint64
	poolMetrics
}

// Default sizes of a node's range.
const (
	bits4 = 24
	bits6 = 64
)

func newPool(cidr netip.Prefix, bits int, m *metrics) (*pool, error) {
	cidr = cidr.Masked()
	if bits == 0 {
		bits = bits6
		if cidr.Addr().Is4() {
			bits = bits4
		}
	}
	if bits < cidr.Bits() || bits > cidr.Addr().BitLen() || bits-cidr.Bits() > 16 {
		return nil, fmt.Errorf("ranges of /%d can't be made of %s", bits, cidr)
	}
	p := &pool{cidr: cidr, bits: bits, taken: map[uint64]string{}}
	p.poolMetrics = m.of(p)
	return p, nil
}

func (p *pool) size() uint64 { return 1 << (p.bits - p.cidr.Bits()) }

// number returns the first and last number of the node ranges that a prefix touches; false if it touches none.
func (p *pool) numbers(r netip.Prefix) (first, last uint64, ok bool) {
	if !p.cidr.Overlaps(r) {
		return 0, 0, false
	}
	if r.Bits() <= p.cidr.Bits() {
		return 0, p.size() - 1, true
	}
	first = p.offset(r.Addr())
	last = first
	if r.Bits() < p.bits {
		last = first + 1<<(p.bits-r.Bits()) - 1
	}
	return first, last, true
}

// offset is the number of the node range that an address lies in.
func (p *pool) offset(a netip.Addr) uint64 {
	bytes, base := a.AsSlice(), p.cidr.Addr().AsSlice()
	var n uint64
	for i := p.cidr.Bits(); i < p.bits; i++ {
		mask := byte(1) << (7 - i%8)
		n <<= 1
		if bytes[i/8]&mask != base[i/8]&mask {
			n |= 1
		}
	}
	return n
}

// prefix is the node range of a number.
func (p *pool) prefix(n uint64) netip.Prefix {
	bytes := p.cidr.Addr().AsSlice()
	for i := p.bits - 1; i >= p.cidr.Bits(); i-- {
		if n&1 == 1 {
			bytes[i/8] |= 1 << (7 - i%8)
		}
		n >>= 1
	}
	a, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(a, p.bits)
}

// occupy notes that a node has a range.
func (p *pool) occupy(node string, r netip.Prefix) {
	first, last, ok := p.numbers(r)
	if !ok {
		return
	}
	for n := first; n <= last; n++ {
		p.take(n, node)
	}
}

func (p *pool) take(n uint64, node string) {
	if _, ok := p.taken[n]; !ok {
		p.allocations.Inc()
	}
	p.taken[n] = node
	p.used()
}

func (p *pool) used() { p.usage.Set(float64(len(p.taken)) / float64(p.size())) }

// release gives a node's ranges back.
func (p *pool) release(node string) {
	for n, owner := range p.taken {
		if owner == node {
			delete(p.taken, n)
			p.releases.Inc()
		}
	}
	p.used()
}

// allocate gives a node a range: the one it was given before, or the next that is free.
func (p *pool) allocate(node string) (netip.Prefix, bool) {
	for n, owner := range p.taken {
		if owner == node {
			return p.prefix(n), true
		}
	}
	for tries := range p.size() {
		n := p.next
		p.next = (p.next + 1) % p.size()
		if _, ok := p.taken[n]; !ok {
			p.take(n, node)
			p.tries.Observe(float64(tries))
			return p.prefix(n), true
		}
	}
	return netip.Prefix{}, false
}
