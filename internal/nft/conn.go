package nft

import (
	"fmt"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
)

// elementsPerMessage keeps a message's element list well below netlink's limit of 64 KiB for an attribute.
const elementsPerMessage = 400

// socketBufferBytes lets a large transaction, and the kernel's answer to each of its messages, pass in one piece.
const socketBufferBytes = 32 << 20

// setIDs numbers sets within a batch. The library's own counter isn't safe for several connections.
var setIDs atomic.Uint32

// NextSetID returns an ID for a new set, by which rules of the same transaction can refer to it.
func NextSetID() uint32 { return 1<<16 + setIDs.Add(1) }

// Conn is a lasting connection to the nftables of one network namespace: the one of the thread that opened it.
// It isn't safe for concurrent use.
type Conn struct {
	*nftables.Conn
	ns netns.NsHandle
}

// Open connects to the nftables of the calling thread's network namespace.
func Open() (*Conn, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the current network namespace: %w", err)
	}
	c := &Conn{ns: ns}
	if err := c.dial(); err != nil {
		_ = ns.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) dial() error {
	buffers := func(s *netlink.Conn) error {
		if err := s.SetReadBuffer(socketBufferBytes); err != nil {
			return err
		}
		return s.SetWriteBuffer(socketBufferBytes)
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(c.ns)), nftables.WithSockOptions(buffers))
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	c.Conn = conn
	return nil
}

// Commit applies everything added since the last Commit, as one transaction: all of it or nothing.
// After an error the connection is a fresh one with nothing pending.
func (c *Conn) Commit() error {
	err := c.Flush()
	if err == nil {
		return nil
	}
	_ = c.CloseLasting()
	if dialErr := c.dial(); dialErr != nil {
		return fmt.Errorf("commit nftables transaction: %w (and then: %w)", err, dialErr)
	}
	return fmt.Errorf("commit nftables transaction: %w", err)
}

// Close ends the connection. Pending changes are dropped.
func (c *Conn) Close() error {
	err := c.CloseLasting()
	_ = c.ns.Close()
	return err
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
