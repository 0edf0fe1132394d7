package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// elementsPerMessage keeps a message's element list well below netlink's limit of 64 KiB for an attribute.
const elementsPerMessage = 400

// socketBufferBytes lets a transaction of many thousand messages pass in one piece.
const socketBufferBytes = 64 << 20

// setIDs numbers sets within a batch. The library's own counter isn't safe for several connections.
var setIDs atomic.Uint32

// NextSetID returns an ID for a new set, by which rules of the same transaction can refer to it.
func NextSetID() uint32 { return 1<<16 + setIDs.Add(1) }

// errCaptured ends the library's own way of sending once it has handed over its messages.
var errCaptured = errors.New("captured")

// Conn collects changes to the nftables of one network namespace, that of the thread that opened it, and
// commits them as transactions. It isn't safe for concurrent use.
//
// The library encodes the messages, and Conn sends them: the library has the kernel acknowledge every message and
// echo every rule, over a socket that the Go runtime polls. The wake-ups alone make a transaction of
// thousands of messages take seconds, where the kernel's work takes a tenth of one.
type Conn struct {
	*nftables.Conn
	ns       netns.NsHandle
	fd       int
	captured []netlink.Message
}

// Open connects to the nftables of the calling thread's network namespace.
func Open() (*Conn, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the current network namespace: %w", err)
	}
	c := &Conn{ns: ns, fd: -1}
	if err := c.dial(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Conn) dial() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	c.fd = fd
	for _, buffer := range []int{unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer, socketBufferBytes); err != nil {
			return fmt.Errorf("enlarge the buffers of nftables' socket: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind nftables' socket: %w", err)
	}
	return c.resetRecorder()
}

func (c *Conn) resetRecorder() error {
	recorder, err := nftables.New(nftables.AsLasting(), nftables.WithTestDial(func(batch []netlink.Message) ([]netlink.Message, error) {
		c.captured = slices.Clone(batch)
		return nil, errCaptured
	}))
	if err != nil {
		return fmt.Errorf("prepare nftables' messages: %w", err)
	}
	c.Conn = recorder
	return nil
}

// Commit applies everything added since the last Commit, as one transaction: all of it or nothing.
// After an error nothing is pending.
func (c *Conn) Commit() error {
	c.captured = nil
	if err := c.Flush(); err != nil && !errors.Is(err, errCaptured) {
		// An error in encoding would stay with the recorder.
		return errors.Join(fmt.Errorf("encode nftables transaction: %w", err), c.resetRecorder())
	}
	if len(c.captured) == 0 {
		return nil
	}
	if err := c.send(c.captured); err != nil {
		return fmt.Errorf("commit nftables transaction: %w", err)
	}
	return nil
}

// send passes a batch to the kernel, which is done with it when the call returns. It answers only what failed.
func (c *Conn) send(batch []netlink.Message) error {
	var wire []byte
	for _, m := range batch {
		m.Header.Flags &^= netlink.Acknowledge | netlink.Echo
		b, err := m.MarshalBinary()
		if err != nil {
			return fmt.Errorf("encode message: %w", err)
		}
		wire = append(wire, b...)
	}
	if err := unix.Sendto(c.fd, wire, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send %d messages: %w", len(batch), err)
	}
	var failure error
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return failure
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			// Only failures are answered, and there were more than fit.
			failure = errors.Join(failure, err)
			continue
		case err != nil:
			return fmt.Errorf("receive the answer: %w", err)
		}
		if failure == nil {
			failure = firstError(buf[:n], batch)
		}
	}
}

// firstError finds the first failure in what the kernel answered, and which message it's about.
func firstError(b []byte, batch []netlink.Message) error {
	for len(b) >= unix.NLMSG_HDRLEN+4 {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return nil
		}
		isError := binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR
		sequence := binary.NativeEndian.Uint32(b[8:])
		if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); isError && code != 0 {
			i := slices.IndexFunc(batch, func(m netlink.Message) bool { return m.Header.Sequence == sequence })
			kind := uint16(0)
			if i >= 0 {
				kind = uint16(batch[i].Header.Type) & 0xff
			}
			return fmt.Errorf("message %d of %d, of type %d: %w", i, len(batch), kind, unix.Errno(-code))
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}

// Elements lists what the kernel has in a set.
func (c *Conn) Elements(set *nftables.Set) ([]nftables.SetElement, error) {
	reader, err := nftables.New(nftables.WithNetNSFd(int(c.ns)))
	if err != nil {
		return nil, fmt.Errorf("connect to nftables: %w", err)
	}
	elements, err := reader.GetSetElements(set)
	if err != nil {
		return nil, fmt.Errorf("list elements of %s: %w", set.Name, err)
	}
	return elements, nil
}

// Close ends the connection. Pending changes are dropped.
func (c *Conn) Close() error {
	var errs []error
	if c.fd >= 0 {
		errs = append(errs, unix.Close(c.fd))
		c.fd = -1
	}
	if c.Conn != nil {
		errs = append(errs, c.CloseLasting())
	}
	if c.ns.IsOpen() {
		errs = append(errs, c.ns.Close())
	}
	return errors.Join(errs...)
}

// AddElements adds elements to a named set, in as many messages as they need.
func (c *Conn) AddElements(set *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		if err := c.SetAddElements(set, elements[:n]); err != nil {
			return fmt.Errorf("add elements to %s: %w", set.Name, err)
		}
		elements = elements[n:]
	}
	return nil
}

// DeleteElements removes elements from a named set, in as many messages as they need.
func (c *Conn) DeleteElements(set *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		if err := c.SetDeleteElements(set, elements[:n]); err != nil {
			return fmt.Errorf("delete elements of %s: %w", set.Name, err)
		}
		elements = elements[n:]
	}
	return nil
}

// ResetTable makes the table anew and empty within the pending transaction, whether it exists or not.
func (c *Conn) ResetTable(t *nftables.Table) {
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
}

// DropTable removes a table with everything in it; it's no error when there is none.
func (c *Conn) DropTable(t *nftables.Table) error {
	c.AddTable(t)
	c.DelTable(t)
	return c.Commit()
}

// HasTable tells whether the kernel has the table. Something else on the machine may flush all of nftables, as the
// start of Debian's nftables.service does.
func (c *Conn) HasTable(t *nftables.Table) (bool, error) {
	reader, err := nftables.New(nftables.WithNetNSFd(int(c.ns)))
	if err != nil {
		return false, fmt.Errorf("connect to nftables: %w", err)
	}
	tables, err := reader.ListTablesOfFamily(t.Family)
	if err != nil {
		return false, fmt.Errorf("list nftables' tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.Name }), nil
}

// SetNames lists the named sets of a table, none if there is no such table.
func (c *Conn) SetNames(t *nftables.Table) (map[string]bool, error) {
	there, err := c.HasTable(t)
	if err != nil || !there {
		return nil, err
	}
	reader, err := nftables.New(nftables.WithNetNSFd(int(c.ns)))
	if err != nil {
		return nil, fmt.Errorf("connect to nftables: %w", err)
	}
	sets, err := reader.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list the sets of table %s: %w", t.Name, err)
	}
	names := make(map[string]bool, len(sets))
	for _, s := range sets {
		names[s.Name] = !s.Anonymous
	}
	return names, nil
}
