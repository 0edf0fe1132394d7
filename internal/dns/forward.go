package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// askTimeout is for one resolver, askTotal for all of them together: less than the five seconds that clients wait.
	askTimeout = 2 * time.Second
	askTotal   = 4500 * time.Millisecond
	// maxAsking bounds the questions that wait for resolvers at a time.
	maxAsking = 1000
	// recheck is how often the file with the resolvers is looked at, when there are questions.
	recheck = 5 * time.Second
	// systemdStub is the address at which systemd-resolved answers, systemdResolvers its file with the real ones.
	systemdStub      = "127.0.0.53"
	systemdResolvers = "/run/systemd/resolve/resolv.conf"
)

// forwarder asks the node's resolvers.
type forwarder struct {
	log     *slog.Logger
	path    string
	own     map[netip.Addr]bool // asking ourselves would go round
	cache   *cache
	slots   chan struct{}
	flights singleflight.Group
	metrics *Metrics

	mu        sync.Mutex
	checked   time.Time
	stamp     time.Time
	resolvers []string
}

func newForwarder(cfg Config) *forwarder {
	f := &forwarder{
		log: cfg.Logger, path: cfg.ResolvConf, own: make(map[netip.Addr]bool),
		cache: newCache(cacheEntries), slots: make(chan struct{}, maxAsking), metrics: cfg.Metrics,
	}
	for _, a := range cfg.hosts() {
		f.own[a] = true
	}
	return f
}

// ask returns the resolvers' reply, a cached one, or a failure.
func (f *forwarder) ask(r *dns.Msg, tcp bool) *dns.Msg {
	key := newCacheKey(r)
	if cached := f.cache.get(key, r); cached != nil {
		f.metrics.cacheHit()
		return cached
	}
	f.metrics.cacheMiss()
	if !r.RecursionDesired {
		return new(dns.Msg).SetRcode(r, dns.RcodeRefused)
	}
	// Equal questions that come together are asked once.
	flight := fmt.Sprint(key, tcp)
	result, _, _ := f.flights.Do(flight, func() (any, error) {
		select {
		case f.slots <- struct{}{}:
			defer func() { <-f.slots }()
		default:
			return (*dns.Msg)(nil), nil
		}
		reply := f.exchange(r, tcp)
		if reply != nil {
			f.cache.put(key, reply)
		}
		return reply, nil
	})
	reply := result.(*dns.Msg)
	if reply == nil {
		return new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	}
	return addressed(reply.Copy(), r)
}

// addressed makes a reply to a question out of one to an equal question.
func addressed(reply, r *dns.Msg) *dns.Msg {
	reply.Id = r.Id
	reply.Question = r.Question
	reply.RecursionDesired, reply.CheckingDisabled = r.RecursionDesired, r.CheckingDisabled
	reply.Authoritative, reply.RecursionAvailable = false, true
	if r.IsEdns0() == nil {
		reply.Extra = withoutOPT(reply.Extra)
	}
	return reply
}

func withoutOPT(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// exchange asks one resolver after the other and returns the first useful reply, or else the last one.
func (f *forwarder) exchange(r *dns.Msg, tcp bool) *dns.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), askTotal)
	defer cancel()
	query := r.Copy()
	query.Id = dns.Id()
	query.Extra = nil
	do := r.IsEdns0() != nil && r.IsEdns0().Do()
	query.SetEdns0(udpSize, do)
	var last *dns.Msg
	for _, resolver := range f.current() {
		if ctx.Err() != nil {
			break
		}
		reply, err := f.askOne(ctx, query, resolver, tcp)
		if err != nil {
			f.log.Debug("A resolver did not answer", "resolver", resolver, "name", query.Question[0].Name, "error", err)
			continue
		}
		last = reply
		if reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError {
			break
		}
	}
	return last
}

func (f *forwarder) askOne(ctx context.Context, query *dns.Msg, resolver string, tcp bool) (*dns.Msg, error) {
	protocol := "udp"
	if tcp {
		protocol = "tcp"
	}
	client := &dns.Client{Net: protocol, Timeout: askTimeout, UDPSize: udpSize}
	reply, _, err := client.ExchangeContext(ctx, query, resolver)
	if err == nil && reply.Truncated && !tcp {
		// The whole answer goes into the cache; what doesn't fit into the client's packet is cut when it's sent.
		client.Net = "tcp"
		if whole, _, tcpErr := client.ExchangeContext(ctx, query, resolver); tcpErr == nil {
			reply = whole
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", resolver, err)
	}
	if len(reply.Question) != 1 || !strings.EqualFold(reply.Question[0].Name, query.Question[0].Name) || reply.Question[0].Qtype != query.Question[0].Qtype {
		return nil, errors.New("the reply is to another question")
	}
	return reply, nil
}

// current returns the resolvers that the file names now.
func (f *forwarder) current() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= recheck {
		f.checked = now
		f.reload()
	}
	return f.resolvers
}

func (f *forwarder) reload() {
	info, err := os.Stat(f.path)
	if err != nil {
		f.log.Warn("Names outside of the cluster can't be resolved", "error", err)
		f.resolvers, f.stamp = nil, time.Time{}
		return
	}
	if f.resolvers != nil && info.ModTime().Equal(f.stamp) {
		return
	}
	resolvers, err := readResolvers(f.path, f.own)
	if err != nil {
		f.log.Warn("Names outside of the cluster can't be resolved", "error", err)
	}
	f.resolvers, f.stamp = resolvers, info.ModTime()
}

// readResolvers reads a resolv.conf. Where it names only the stub of systemd-resolved, that one's own resolvers are
// taken: the stub isn't reachable from another network namespace, and would be one hop more.
func readResolvers(path string, own map[netip.Addr]bool) ([]string, error) {
	cfg, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers from %s: %w", path, err)
	}
	if len(cfg.Servers) == 1 && cfg.Servers[0] == systemdStub {
		if real, err := dns.ClientConfigFromFile(systemdResolvers); err == nil {
			cfg = real
		}
	}
	var out []string
	for _, s := range cfg.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || own[a.Unmap()] {
			continue
		}
		port, err := strconv.ParseUint(cfg.Port, 10, 16)
		if err != nil {
			port = 53
		}
		out = append(out, net.JoinHostPort(a.String(), strconv.Itoa(int(port))))
	}
	return out, nil
}
