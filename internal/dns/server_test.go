package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/netlab"
	"github.com/vishvananda/netlink"
)

// lab is a DNS server in a namespace of its own, with a resolver for the outside.
type lab struct {
	t      *testing.T
	client *clienttest.Client
	asked  atomic.Int32 // how many questions reached the resolver
}

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Skip("ports and devices need root")
	}
	l := &lab{t: t}
	l.client = clienttest.New(testService("web", "10.96.0.1", nil), testService("alias", "", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ClusterIPs, s.Spec.ExternalName = corev1.ServiceTypeExternalName, nil, "www.example.com"
	}), testService("inner", "", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ClusterIPs, s.Spec.ExternalName = corev1.ServiceTypeExternalName, nil, "web.default.svc.cluster.local"
	}), testService("loop", "", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ClusterIPs, s.Spec.ExternalName = corev1.ServiceTypeExternalName, nil, "loop.default.svc.cluster.local"
	}))
	l.resolver("127.0.0.2:53")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	// The server itself comes first, which it must skip, then one that doesn't answer.
	if err := os.WriteFile(conf, []byte("nameserver 10.96.0.10\nnameserver 127.0.0.3\nnameserver 127.0.0.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Addresses: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}, Device: "lab0", ResolvConf: conf}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "lab0"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	go func() { done <- Run(ctx, l.client, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	l.until(func() bool {
		r, err := l.ask("udp", "web.default.svc.cluster.local.", dns.TypeA)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
	return l
}

// until asks again until the condition holds.
func (l *lab) until(ok func() bool) {
	l.t.Helper()
	for range 2000 {
		if ok() {
			return
		}
	}
	l.t.Fatal("it never came true")
}

// resolver answers every A question with 203.0.113.1, and "big." with more than fits into a packet.
func (l *lab) resolver(addr string) {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		l.asked.Add(1)
		m := new(dns.Msg).SetReply(r)
		q := r.Question[0]
		n := 1
		switch {
		case q.Name == "none.example.com.":
			m.Rcode = dns.RcodeNameError
		case q.Name == "big.example.com.":
			n = 400
		}
		for i := 0; i < n && m.Rcode == 0 && q.Qtype == dns.TypeA; i++ {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.IPv4(203, 0, byte(113+i/256), byte(1+i%256))})
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(m)
	})
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		go func() { _ = s.ActivateAndServe() }()
		l.t.Cleanup(func() { _ = s.Shutdown() })
	}
}

func (l *lab) ask(network, name string, qtype uint16) (*dns.Msg, error) {
	return l.exchange(network, new(dns.Msg).SetQuestion(name, qtype))
}

func (l *lab) exchange(network string, m *dns.Msg) (r *dns.Msg, err error) {
	c := &dns.Client{Net: network, Timeout: 6 * time.Second}
	r, _, err = c.Exchange(m, "10.96.0.10:53")
	return r, err
}

func TestServer(t *testing.T) {
	l := newLab(t)
	for _, network := range []string{"udp", "tcp"} {
		tests := []struct {
			name   string
			qname  string
			qtype  uint16
			rcode  int
			answer string
			soa    bool
		}{
			{"service", "web.default.svc.cluster.local.", dns.TypeA, 0, "10.96.0.1", false},
			{"no_data", "web.default.svc.cluster.local.", dns.TypeAAAA, 0, "", true},
			{"no_name", "none.default.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, "", true},
			{"outside", "www.example.com.", dns.TypeA, 0, "203.0.113.1", false},
			{"outside_no_name", "none.example.com.", dns.TypeA, dns.RcodeNameError, "", false},
			{"alias_outside", "alias.default.svc.cluster.local.", dns.TypeA, 0, "203.0.113.1, www.example.com.", false},
			{"alias_inside", "inner.default.svc.cluster.local.", dns.TypeA, 0, "10.96.0.1, web.default.svc.CL", false},
			{"alias_itself", "alias.default.svc.cluster.local.", dns.TypeCNAME, 0, "www.example.com.", false},
			{"alias_loop", "loop.default.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure, "", false},
			{"reverse", "1.0.96.10.in-addr.arpa.", dns.TypePTR, 0, "web.default.svc.CL", false},
		}
		for _, test := range tests {
			t.Run(network+"/"+test.name, func(t *testing.T) {
				r, err := l.ask(network, test.qname, test.qtype)
				if err != nil {
					t.Fatal(err)
				}
				if r.Rcode != test.rcode || brief(r.Answer) != test.answer || (len(r.Ns) == 1) != test.soa || !r.RecursionAvailable && r.Rcode != dns.RcodeServerFailure {
					t.Errorf("got\n%s", r)
				}
			})
		}
	}
	t.Run("answers_from_outside_are_kept", func(t *testing.T) {
		before := l.asked.Load()
		for range 5 {
			if _, err := l.ask("udp", "www.example.com.", dns.TypeA); err != nil {
				t.Fatal(err)
			}
		}
		if l.asked.Load() != before {
			t.Errorf("the resolver was asked %d times more", l.asked.Load()-before)
		}
	})
	t.Run("large_answers_are_cut_over_UDP_and_whole_over_TCP", func(t *testing.T) {
		r, err := l.ask("udp", "big.example.com.", dns.TypeA)
		if err != nil || !r.Truncated || len(r.Answer) > 30 {
			t.Errorf("UDP: %v, %v", err, r)
		}
		large := new(dns.Msg).SetQuestion("big.example.com.", dns.TypeA)
		large.SetEdns0(1232, false)
		if r, err = l.exchange("udp", large); err != nil || !r.Truncated || r.IsEdns0() == nil || len(r.Answer) < 40 {
			t.Errorf("UDP with EDNS: %v, %v", err, r)
		}
		if r, err = l.ask("tcp", "big.example.com.", dns.TypeA); err != nil || r.Truncated || len(r.Answer) != 400 {
			t.Errorf("TCP: %v, %d answers", err, len(r.Answer))
		}
	})
	t.Run("changes_are_answered", func(t *testing.T) {
		if _, err := client.Services.Create(t.Context(), l.client, testService("new", "10.96.0.2", nil)); err != nil {
			t.Fatal(err)
		}
		l.until(func() bool {
			r, err := l.ask("udp", "new.default.svc.cluster.local.", dns.TypeA)
			return err == nil && brief(r.Answer) == "10.96.0.2"
		})
		if err := client.Services.Delete(t.Context(), l.client, "default", "new", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		l.until(func() bool {
			r, err := l.ask("udp", "new.default.svc.cluster.local.", dns.TypeA)
			return err == nil && r.Rcode == dns.RcodeNameError
		})
	})
}

func TestQuestionsBeforeTheZoneIsKnownFail(t *testing.T) {
	s := &Server{zone: NewZone("cluster.local", nil)}
	r := s.answer(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), false)
	if r.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %s", r)
	}
}

func TestOddQuestions(t *testing.T) {
	s := &Server{zone: testZone()}
	two := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	update := new(dns.Msg).SetUpdate("cluster.local.")
	chaos := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	future := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	future.SetEdns0(1232, false)
	future.IsEdns0().SetVersion(1)
	for name, test := range map[string]struct {
		m    *dns.Msg
		want int
	}{
		"two_questions": {two, dns.RcodeFormatError}, "update": {update, dns.RcodeNotImplemented},
		"other_class": {chaos, dns.RcodeRefused}, "later_EDNS": {future, dns.RcodeBadVers},
	} {
		t.Run(name, func(t *testing.T) {
			if r := s.answer(test.m, false); r.Rcode != test.want {
				t.Errorf("got %s", r)
			}
		})
	}
}

func TestCacheForgetsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(2)
		q := func(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }
		put := func(name string, ttl int) {
			m := new(dns.Msg).SetReply(q(name))
			rr, err := dns.NewRR(fmt.Sprintf("%s %d IN A 192.0.2.1", name, ttl))
			if err != nil {
				t.Fatal(err)
			}
			m.Answer = []dns.RR{rr}
			c.put(newCacheKey(m), m)
		}
		get := func(name string) *dns.Msg { return c.get(newCacheKey(q(name)), q(name)) }
		put("a.", 10)
		time.Sleep(4 * time.Second)
		if m := get("A."); m == nil || m.Answer[0].Header().Ttl != 6 {
			t.Errorf("after 4 s: %v", m)
		}
		time.Sleep(6 * time.Second)
		if m := get("a."); m != nil {
			t.Errorf("after 10 s: %v", m)
		}
		put("a.", 3600)
		time.Sleep(maxKept)
		if m := get("a."); m != nil {
			t.Errorf("after the longest time: %v", m)
		}
		put("a.", 10)
		put("b.", 10)
		get("a.")
		put("c.", 10)
		if get("a.") == nil || get("b.") != nil || get("c.") == nil {
			t.Error("the least recently used one should be gone")
		}
		put("zero.", 0)
		if get("zero.") != nil {
			t.Error("what may not be kept was kept")
		}
	})
}

func TestReadResolvers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("search example.com\nnameserver 192.0.2.1\nnameserver 10.96.0.10\nnameserver 2001:db8::1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readResolvers(path, map[netip.Addr]bool{netip.MustParseAddr("10.96.0.10"): true})
	if err != nil || fmt.Sprint(got) != "[192.0.2.1:53 [2001:db8::1]:53]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestMain(m *testing.M) { os.Exit(netlab.Main(m)) }
