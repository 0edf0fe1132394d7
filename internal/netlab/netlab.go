package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for an answer over a network that has no reason to be slow.
const patience = 2 * time.Second

// Space is a network namespace of its own.
type Space struct {
	t    testing.TB
	File *os.File
}

// New makes a namespace with its loopback interface up. The test is skipped without the right to do so.
func New(t testing.TB) *Space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	made := make(chan error)
	s := &Space{t: t}
	go func() {
		// The thread is never unlocked: it ends with the goroutine, as its namespace is no longer the process's.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		var err error
		s.File, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.File.Close() })
	s.Do(func() {
		// Addresses shall work at once; nobody else can have them.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("do without duplicate address detection: %v", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Errorf("set loopback up: %v", err)
		}
	})
	return s
}

// Do runs f on a thread that is in the namespace and waits for its end.
func (s *Space) Do(f func()) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(netns.NsHandle(s.File.Fd())); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

// Join connects two namespaces by a veth with the given names and addresses at its ends.
func Join(a *Space, nameA string, addrA netip.Prefix, b *Space, nameB string, addrB netip.Prefix) {
	a.t.Helper()
	a.Do(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(b.File.Fd())}); err != nil {
			a.t.Errorf("join namespaces: %v", err)
		}
	})
	a.Address(nameA, addrA)
	b.Address(nameB, addrB)
}

// Address gives an interface an address and sets it up.
func (s *Space) Address(name string, addr netip.Prefix) {
	s.t.Helper()
	s.Do(func() {
		link, err := netlink.LinkByName(name)
		if err != nil {
			s.t.Errorf("find %s: %v", name, err)
			return
		}
		ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
		a := &netlink.Addr{IPNet: ip}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			s.t.Errorf("give %s the address %s: %v", name, addr, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			s.t.Errorf("set %s up: %v", name, err)
		}
	})
}

// DefaultRoute sends everything else to the gateway.
func (s *Space) DefaultRoute(gw netip.Addr) {
	s.t.Helper()
	s.Do(func() {
		if err := netlink.RouteAdd(&netlink.Route{Gw: gw.AsSlice()}); err != nil {
			s.t.Errorf("add default route: %v", err)
		}
	})
}

// ServeTCP answers each connection with the text and the caller's address, until the test or the returned function ends it.
func (s *Space) ServeTCP(addr, text string) (stop func()) {
	s.t.Helper()
	var l net.Listener
	var err error
	s.Do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "%s %s\n", text, host)
				// Echo lines until the caller goes, so that a test can keep a connection.
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintln(c, lines.Text())
				}
			}()
		}
	}()
	s.t.Cleanup(func() { _ = l.Close() })
	return func() { _ = l.Close() }
}

// ServeUDP answers each packet with the text and the caller's address.
func (s *Space) ServeUDP(addr, text string) (stop func()) {
	s.t.Helper()
	var c net.PacketConn
	var err error
	s.Do(func() { c, err = net.ListenPacket("udp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(from.String())
			_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s\n", text, host), from)
		}
	}()
	s.t.Cleanup(func() { _ = c.Close() })
	return func() { _ = c.Close() }
}

// Dial connects from the namespace.
func (s *Space) Dial(network, addr string) (net.Conn, error) { return s.dial(patience, network, addr) }

func (s *Space) dial(timeout time.Duration, network, addr string) (net.Conn, error) {
	var c net.Conn
	var err error
	s.Do(func() { c, err = (&net.Dialer{Timeout: timeout}).Dial(network, addr) })
	return c, err
}

// Ask connects to the address over tcp or udp and returns the line that is answered.
func (s *Space) Ask(network, addr string) (string, error) {
	return s.AskWithin(patience, network, addr)
}

// AskWithin is Ask with a time to wait of one's own.
func (s *Space) AskWithin(timeout time.Duration, network, addr string) (string, error) {
	c, err := s.dial(timeout, network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return askOn(timeout, c)
}

// AskOn sends a line on a connection and returns the first line that is answered.
func AskOn(c net.Conn) (string, error) { return askOn(patience, c) }

func askOn(timeout time.Duration, c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if c.RemoteAddr().Network() == "udp" {
		if _, err := fmt.Fprintln(c, "?"); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", err
	}
	return line[:len(line)-1], nil
}

// Refused tells whether an error says at once that nothing listens. A packet that the sender's own machine rejects fails as not permitted.
func Refused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPERM)
}
