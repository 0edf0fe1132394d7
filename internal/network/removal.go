package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// removeLater has the lease's interface deleted in the background. The caller holds mu.
//
// The kernel waits for a grace period in every deletion, with the lock held that every other change of
// interfaces needs. So one goroutine deletes everything that is due as a group, in one call.
func (n *Network) removeLater(l *lease) {
	if n.busy[l.SandboxID] != nil {
		return // being removed already
	}
	n.busy[l.SandboxID] = make(chan struct{})
	n.due = append(n.due, l)
	if n.removing {
		return
	}
	n.removing = true
	n.removal.Go(n.removeDue)
}

func (n *Network) removeDue() {
	for {
		n.mu.Lock()
		batch := n.due
		n.due = nil
		if len(batch) == 0 {
			n.removing = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		if err := n.deleteTogether(batch); err != nil {
			n.log.Warn("Could not remove pods' interfaces together; removing one by one", "error", err)
		}
		for _, l := range batch {
			if err := n.release(l); err != nil {
				n.log.Error("Could not remove a pod's interface; its address stays reserved until the next start",
					"pod", l.Namespace+"/"+l.Name, "interface", l.Link, "error", err)
			}
			n.mu.Lock()
			end := n.busy[l.SandboxID]
			n.mu.Unlock()
			n.unclaim(l.SandboxID, end)
		}
	}
}

// deleteTogether deletes the interfaces of the leases with one request, by a group number.
func (n *Network) deleteTogether(batch []*lease) error {
	grouped := false
	for _, l := range batch {
		for _, name := range []string{l.Link, shaperName(l.Link)} {
			link, err := n.nl.LinkByName(name)
			if errors.As(err, &netlink.LinkNotFoundError{}) {
				continue
			}
			if err != nil {
				return fmt.Errorf("find interface %s: %w", name, err)
			}
			if err := n.nl.LinkSetGroup(link, int(n.group+1)); err != nil {
				return fmt.Errorf("group interface %s: %w", name, err)
			}
			grouped = true
		}
	}
	if !grouped {
		return nil
	}
	return n.deleteGroup(n.group + 1)
}

// deleteGroup deletes every interface of the group. It's no error if there is none.
func (n *Network) deleteGroup(group uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.Sockets = n.slow
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete a group of interfaces: %w", err)
	}
	return nil
}

// sockets opens a netlink socket for requests that the library has no call for.
func sockets() (map[int]*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}, nil
}
