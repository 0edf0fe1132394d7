package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// idleTCP is how long a TCP connection may wait for its next question.
	idleTCP = 10 * time.Second
	// maxAliases is how many external names may lead to each other before an answer gives up.
	maxAliases = 8
	// udpSize is the size of answers over UDP that every path carries.
	udpSize = 1232
)

// Server answers questions from a zone and, for other names, from a forwarder.
type Server struct {
	cfg     Config
	zone    *Zone
	forward *forwarder
	servers []*dns.Server
}

// Listen takes the configured addresses and ports. Questions wait until Serve.
func Listen(ctx context.Context, cfg Config, zone *Zone) (*Server, error) {
	cfg.complete()
	s := &Server{cfg: cfg, zone: zone, forward: newForwarder(cfg)}
	if err := s.takeAddresses(); err != nil {
		return nil, err
	}
	for _, a := range cfg.Addresses {
		if err := s.listen(ctx, a.String()); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, addr string) error {
	udp, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return fmt.Errorf("listen for DNS on %s over UDP: %w", addr, err)
	}
	s.servers = append(s.servers, &dns.Server{PacketConn: udp, Handler: s, UDPSize: dns.MaxMsgSize})
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for DNS on %s over TCP: %w", addr, err)
	}
	idle := func() time.Duration { return idleTCP }
	s.servers = append(s.servers, &dns.Server{Listener: tcp, Handler: s, IdleTimeout: idle, MaxTCPQueries: -1})
	return nil
}

func (s *Server) close() {
	for _, srv := range s.servers {
		if srv.PacketConn != nil {
			_ = srv.PacketConn.Close()
		}
		if srv.Listener != nil {
			_ = srv.Listener.Close()
		}
	}
}

// takeAddresses puts the addresses on the device. They stay there when the process ends: a question that
// comes while it restarts is refused at once, and the client asks again.
func (s *Server) takeAddresses() error {
	if s.cfg.Device == "" {
		return nil
	}
	link, err := netlink.LinkByName(s.cfg.Device)
	if err != nil {
		return fmt.Errorf("find the device %s for the DNS address: %w", s.cfg.Device, err)
	}
	for _, a := range s.cfg.hosts() {
		ip := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		addr := &netlink.Addr{IPNet: ip}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD // every node has it
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("give %s the DNS address %s: %w", s.cfg.Device, a, err)
		}
	}
	return nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, srv := range s.servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		g.Go(func() error {
			defer close(ended)
			if err := srv.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("serve DNS: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			select {
			case <-started:
			case <-ended:
				return nil
			}
			// Questions that are being forwarded end with their own time-outs.
			return srv.Shutdown()
		})
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	began := time.Now()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	reply := s.answer(r, tcp)
	if opt := r.IsEdns0(); opt != nil && reply.IsEdns0() == nil {
		reply.SetEdns0(udpSize, opt.Do())
	}
	reply.Compress = true
	if !tcp {
		size := dns.MinMsgSize
		if opt := r.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), size), 4096)
		}
		reply.Truncate(size)
	} else {
		reply.Truncate(dns.MaxMsgSize)
	}
	if err := w.WriteMsg(reply); err != nil {
		s.cfg.Logger.Debug("Could not answer a DNS question", "to", w.RemoteAddr(), "error", err)
	}
	s.cfg.Metrics.answered(w, r, reply, time.Since(began))
}

// answer finds the reply to a message.
func (s *Server) answer(r *dns.Msg, tcp bool) *dns.Msg {
	reply := new(dns.Msg)
	if r.Opcode != dns.OpcodeQuery {
		return reply.SetRcode(r, dns.RcodeNotImplemented)
	}
	if len(r.Question) != 1 {
		return reply.SetRcode(r, dns.RcodeFormatError)
	}
	if opt := r.IsEdns0(); opt != nil && opt.Version() != 0 {
		reply.SetRcode(r, dns.RcodeBadVers)
		reply.SetEdns0(udpSize, false)
		return reply
	}
	q := r.Question[0]
	if q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY {
		return reply.SetRcode(r, dns.RcodeRefused)
	}
	if s.zone.Contains(q.Name) {
		return s.fromZone(r, tcp)
	}
	if addr, ok := reverseAddress(q.Name); ok && (q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY) {
		if names := s.zone.Reverse(q.Name, addr); len(names) > 0 {
			reply.SetReply(r)
			reply.Authoritative, reply.RecursionAvailable = true, true
			reply.Answer = names
			return reply
		}
	}
	return s.forward.ask(r, tcp)
}

// fromZone answers for a name of the cluster, and follows an external Service's name.
func (s *Server) fromZone(r *dns.Msg, tcp bool) *dns.Msg {
	reply := new(dns.Msg)
	if !s.zone.Ready() {
		return reply.SetRcode(r, dns.RcodeServerFailure)
	}
	reply.SetReply(r)
	reply.Authoritative, reply.RecursionAvailable = true, true
	q := r.Question[0]
	name := q.Name
	for range maxAliases {
		a := s.zone.Lookup(name, q.Qtype)
		reply.Answer = append(reply.Answer, shuffled(a.Answer)...)
		reply.Extra = append(reply.Extra, a.Extra...)
		switch {
		case !a.Exists:
			reply.Rcode = dns.RcodeNameError
			reply.Ns = []dns.RR{s.zone.SOA()}
			return reply
		case a.Alias == "" || q.Qtype == dns.TypeCNAME:
			if len(a.Answer) == 0 {
				reply.Ns = []dns.RR{s.zone.SOA()}
			}
			return reply
		case !s.zone.Contains(a.Alias):
			return s.followOutside(r, reply, a.Alias, tcp)
		}
		name = a.Alias
	}
	return new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
}

// followOutside adds what the outside says about the target of an alias. When it says nothing, the alias stands alone.
func (s *Server) followOutside(r, reply *dns.Msg, target string, tcp bool) *dns.Msg {
	further := r.Copy()
	further.Question[0].Name = target
	outside := s.forward.ask(further, tcp)
	switch outside.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		reply.Rcode = outside.Rcode
		reply.Answer = append(reply.Answer, outside.Answer...)
		reply.Ns = outside.Ns
	}
	return reply
}

// shuffled puts records into a random order, so that clients that take the first one spread.
func shuffled(rrs []dns.RR) []dns.RR {
	rand.Shuffle(len(rrs), func(i, j int) { rrs[i], rrs[j] = rrs[j], rrs[i] })
	return rrs
}

// reverseAddress reads 5.0.244.10.in-addr.arpa. and its like for IPv6.
func reverseAddress(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(digits, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return a, err == nil
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa.")
	labels := strings.Split(digits, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range labels {
		b.WriteString(labels[31-i])
		if i%4 == 3 && i < 31 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
