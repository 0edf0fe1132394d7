package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/nft"
)

// Purge removes everything on the machine that has the configuration's names: the pods' interfaces, the
// bridge, the overlay device, routes, the table and the state. Nothing else is touched, and it's no error if nothing is there.
func Purge(cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	n := &Network{cfg: cfg, nl: nl, group: linkGroup(cfg)}
	defer n.closeSockets()
	if n.slow, err = sockets(); err != nil {
		return err
	}
	errs := []error{n.deleteGroup(n.group), n.deleteGroup(n.group + 1), n.deleteLink(cfg.Bridge)}
	if cfg.VXLAN.Device != "" {
		errs = append(errs, n.deleteLink(cfg.VXLAN.Device))
	}
	errs = append(errs, n.purgeRoutes(), dropTable(cfg.Table))
	if err := os.RemoveAll(cfg.StateDir); err != nil {
		errs = append(errs, fmt.Errorf("remove network state: %w", err))
	}
	return errors.Join(errs...)
}

// purgeRoutes removes the routes that hang on no device. They lie in the cluster's ranges and are marked by their priority.
func (n *Network) purgeRoutes() error {
	filter := &netlink.Route{Type: unix.RTN_UNREACHABLE, Priority: unreachablePriority}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.nl.RouteListFiltered(family, filter, netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PRIORITY)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil || !n.inCluster(r.Dst.IP) {
				continue
			}
			if err := n.nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the route of %s: %w", r.Dst, err)
			}
		}
	}
	return nil
}

func (n *Network) inCluster(ip []byte) bool {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	cidrs, _ := n.loadPodCIDRs() // an unreadable file is about to go anyway
	for _, c := range append(cidrs, n.cfg.ClusterCIDRs...) {
		if c.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

func dropTable(name string) error {
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	return errors.Join(conn.DropTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet}), conn.Close())
}
