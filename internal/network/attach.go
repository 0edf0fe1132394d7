package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Attach implements Pods. For a sandbox that is attached already it makes the connection anew, with the same addresses.
func (n *Network) Attach(ctx context.Context, pod Sandbox) ([]netip.Addr, error) {
	if err := validSandboxID(pod.ID); err != nil {
		return nil, err
	}
	if pod.NetNS == nil {
		return nil, fmt.Errorf("sandbox %s has no network namespace", pod.ID)
	}
	done, err := n.claim(ctx, pod.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := n.lease(pod)
	if err != nil {
		return nil, err
	}
	if err := n.connect(pod, l); err != nil {
		err = fmt.Errorf("connect pod %s/%s: %w", pod.Namespace, pod.Name, err)
		if undo := n.release(l); undo != nil {
			err = errors.Join(err, undo)
		}
		return nil, err
	}
	return slices.Clone(l.Addresses), nil
}

// lease finds the sandbox's lease or makes one, and writes it down.
func (n *Network) lease(pod Sandbox) (*lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &lease{
		SandboxID: pod.ID, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		Link: n.linkName(pod.ID), HostPorts: pod.HostPorts,
	}
	if old := n.bySB[pod.ID]; old != nil {
		l.Addresses = old.Addresses
	} else {
		if len(n.pools) == 0 {
			return nil, errors.New("node has no pod CIDR yet")
		}
		for _, p := range n.pools {
			a, err := p.allocate()
			if err != nil {
				n.freeAddresses(l)
				return nil, err
			}
			l.Addresses = append(l.Addresses, a)
		}
	}
	if err := n.leases.save(l); err != nil {
		if n.bySB[pod.ID] == nil {
			n.freeAddresses(l)
		}
		return nil, err
	}
	n.bySB[pod.ID] = l
	return l, nil
}

func (n *Network) connect(pod Sandbox, l *lease) error {
	if err := n.makeVeth(pod, l); err != nil {
		return err
	}
	if pod.IngressBitsPerSecond > 0 || pod.EgressBitsPerSecond > 0 {
		if err := n.limitBandwidth(pod, l); err != nil {
			return err
		}
	}
	if len(l.HostPorts) == 0 {
		return nil
	}
	n.tableMu.Lock()
	err := n.table.publish(l)
	n.tableMu.Unlock()
	if err != nil {
		return err
	}
	return n.forgetFlows(l, true)
}

// Detach implements Pods. The pod is unreachable by its host ports when it returns; the interface goes a
// little later, and only then are its addresses free for others.
func (n *Network) Detach(ctx context.Context, sandboxID string) error {
	if err := validSandboxID(sandboxID); err != nil {
		return err
	}
	n.mu.Lock()
	l := n.bySB[sandboxID]
	gone := l == nil || l.Releasing
	n.mu.Unlock()
	if gone {
		return nil
	}
	done, err := n.claim(ctx, sandboxID)
	if err != nil {
		return err
	}
	n.mu.Lock()
	l = n.bySB[sandboxID]
	n.mu.Unlock()
	if l == nil {
		done()
		return nil
	}
	err = n.withdraw(l)
	done()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removeLater(l)
	return nil
}

// withdraw takes the host ports back and notes in the lease that the rest is to go.
func (n *Network) withdraw(l *lease) error {
	n.tableMu.Lock()
	err := n.table.unpublish(l)
	n.tableMu.Unlock()
	if err != nil {
		return err
	}
	if err := n.forgetFlows(l, false); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	releasing := *l
	releasing.Releasing = true
	if err := n.leases.save(&releasing); err != nil {
		return err
	}
	l.Releasing = true
	return nil
}

// release removes everything of the lease, and the lease.
func (n *Network) release(l *lease) error {
	n.tableMu.Lock()
	err := n.table.unpublish(l)
	n.tableMu.Unlock()
	if err != nil {
		return err
	}
	if err := n.deleteLink(l.Link); err != nil {
		return err
	}
	if err := n.deleteLink(shaperName(l.Link)); err != nil {
		return err
	}
	if err := n.leases.remove(l.SandboxID); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.bySB, l.SandboxID)
	n.freeAddresses(l)
	return nil
}

func (n *Network) freeAddresses(l *lease) {
	for _, p := range n.pools {
		for _, a := range l.Addresses {
			p.release(a)
		}
	}
}

func (n *Network) deleteLink(name string) error {
	link, err := n.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := n.nl.LinkDel(link); err != nil {
		// The kernel deletes the interface by itself when the pod's namespace ends.
		if _, gone := n.nl.LinkByName(name); errors.As(gone, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// Addresses implements Pods.
func (n *Network) Addresses(sandboxID string) ([]netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.bySB[sandboxID]
	if l == nil || l.Releasing {
		return nil, false
	}
	return slices.Clone(l.Addresses), true
}

// claim waits until nothing else is under way for the sandbox and keeps others out until the returned function is called.
func (n *Network) claim(ctx context.Context, sandboxID string) (func(), error) {
	for {
		n.mu.Lock()
		other := n.busy[sandboxID]
		if other == nil {
			end := make(chan struct{})
			n.busy[sandboxID] = end
			n.mu.Unlock()
			return func() { n.unclaim(sandboxID, end) }, nil
		}
		n.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the network of sandbox %s: %w", sandboxID, ctx.Err())
		}
	}
}

func (n *Network) unclaim(sandboxID string, end chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[sandboxID] == end {
		delete(n.busy, sandboxID)
	}
	close(end)
}

// linkName returns the name of the veth's end on the node: the same for the same sandbox, of the 15 characters that a name may have.
func (n *Network) linkName(sandboxID string) string {
	sum := sha256.Sum256([]byte(n.cfg.Bridge + "/" + sandboxID))
	return "veth" + hex.EncodeToString(sum[:])[:10]
}
