package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
)

// Config says how the pod network of one node looks.
type Config struct {
	// Bridge is the name of the device that has the node's address in the pod network; the cluster DNS address hangs on it too.
	Bridge string
	// Table is the name of the nftables table for masquerading and host ports.
	Table string
	// StateDir is a directory for what has to be known after a restart.
	StateDir string
	// ClusterCIDRs hold every pod of the cluster. Traffic between them is never masqueraded.
	ClusterCIDRs []netip.Prefix
	// ServiceCIDRs are routed to the bridge, so that the node itself reaches Services with the bridge's
	// address as its own, whatever other routes it has.
	ServiceCIDRs []netip.Prefix
	// Masquerade are further sources whose connections to anywhere else get this node's address: those of nodes that
	// live in network namespaces of this machine and have no other way out.
	Masquerade []netip.Prefix
	// NodeName is this node's name.
	NodeName string
	// Underlay is this node's address that the other nodes reach. Without a valid one there is no overlay.
	Underlay netip.Addr
	// VXLAN names the overlay device.
	VXLAN VXLAN
	// MTU of pods' interfaces. 0 derives it from the interface that has the underlay address.
	MTU    int
	Logger *slog.Logger
}

// VXLAN is the overlay's device.
type VXLAN struct {
	Device string
	VNI    uint32
	// Port is the UDP port, 8472 if it is 0.
	Port uint16
}

// Names fills in the names that follow from the cluster's name, as far as they are empty. Interface names
// have at most 15 characters, so a long cluster name is shortened and made unique by a hash.
func (c *Config) Names(cluster string) {
	short := cluster
	if len(short) > 11 {
		short = fmt.Sprintf("%.6s%05x", short, hash32(cluster)&0xfffff)
	}
	if c.Bridge == "" {
		c.Bridge = short + "0"
	}
	if c.VXLAN.Device == "" {
		c.VXLAN.Device = short + ".vx"
	}
	if c.VXLAN.VNI == 0 {
		c.VXLAN.VNI = hash32(cluster)&0xffffff | 1
	}
	if c.Table == "" {
		c.Table = cluster + "-net"
	}
}

func (c *Config) complete() error {
	if c.Bridge == "" || c.Table == "" || c.StateDir == "" {
		return errors.New("network configuration lacks a bridge name, a table name or a state directory")
	}
	for _, name := range []string{c.Bridge, c.VXLAN.Device} {
		if len(name) > 15 {
			return fmt.Errorf("interface name %q is longer than 15 characters", name)
		}
	}
	if c.VXLAN.Port == 0 {
		c.VXLAN.Port = 8472
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (c *Config) overlay() bool { return c.VXLAN.Device != "" && c.Underlay.IsValid() }

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// linkGroup returns the number of the group that the pods' interfaces are in. The next number is used too.
func linkGroup(c Config) uint32 { return hash32(c.Bridge)&0x3ffffffe | 0x40000000 }
