package dns

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// cacheEntries bounds the cache.
	cacheEntries = 5000
	// maxKept is for how long a reply is kept at most, whatever it says.
	maxKept = 30 * time.Second
)

// cacheKey is what makes two questions equal.
type cacheKey struct {
	name          string
	qtype, qclass uint16
	do, cd        bool
}

func newCacheKey(r *dns.Msg) cacheKey {
	q := r.Question[0]
	k := cacheKey{name: strings.ToLower(q.Name), qtype: q.Qtype, qclass: q.Qclass, cd: r.CheckingDisabled}
	if opt := r.IsEdns0(); opt != nil {
		k.do = opt.Do()
	}
	return k
}

// cache keeps replies from outside, the most recently used ones.
type cache struct {
	mu      sync.Mutex
	size    int
	entries map[cacheKey]*list.Element
	order   *list.List // of *cacheEntry, the most recently used first
}

type cacheEntry struct {
	key   cacheKey
	reply *dns.Msg
	since time.Time
	until time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, entries: make(map[cacheKey]*list.Element), order: list.New()}
}

// get returns a reply to r with the time it has left, or nil.
func (c *cache) get(key cacheKey, r *dns.Msg) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[key]
	if el == nil {
		return nil
	}
	e := el.Value.(*cacheEntry)
	now := time.Now()
	if !now.Before(e.until) {
		c.order.Remove(el)
		delete(c.entries, key)
		return nil
	}
	c.order.MoveToFront(el)
	reply := addressed(e.reply.Copy(), r)
	age := uint32(now.Sub(e.since) / time.Second)
	for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, age)
			}
		}
	}
	return reply
}

// put keeps a reply for as long as it says, if it's one that may be kept.
func (c *cache) put(key cacheKey, reply *dns.Msg) {
	ttl, ok := keepFor(reply)
	if !ok {
		return
	}
	now := time.Now()
	e := &cacheEntry{key: key, reply: reply.Copy(), since: now, until: now.Add(ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[key]; el != nil {
		el.Value = e
		c.order.MoveToFront(el)
		return
	}
	c.entries[key] = c.order.PushFront(e)
	for len(c.entries) > c.size {
		oldest := c.order.Remove(c.order.Back()).(*cacheEntry)
		delete(c.entries, oldest.key)
	}
}

// keepFor is the smallest time that a record of the reply may be kept; for a denial, what its SOA says.
func keepFor(reply *dns.Msg) (time.Duration, bool) {
	if reply.Truncated {
		return 0, false
	}
	seconds := uint32(maxKept / time.Second)
	switch {
	case reply.Rcode == dns.RcodeSuccess && len(reply.Answer) > 0:
		for _, rr := range reply.Answer {
			seconds = min(seconds, rr.Header().Ttl)
		}
	case reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError:
		soa := false
		for _, rr := range reply.Ns {
			if s, ok := rr.(*dns.SOA); ok {
				seconds, soa = min(seconds, s.Minttl, s.Hdr.Ttl), true
			}
		}
		if !soa {
			return 0, false
		}
	default:
		return 0, false
	}
	return time.Duration(seconds) * time.Second, seconds > 0
}
