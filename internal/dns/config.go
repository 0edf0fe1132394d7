package dns

import (
	"log/slog"
	"net/netip"
)

// Config says what a node's DNS server answers to and where.
type Config struct {
	// Domain is the cluster's domain, "cluster.local" if it's empty.
	Domain string
	// Addresses are where it listens, over UDP and TCP; each Service address of kube-dns with port 53.
	Addresses []netip.AddrPort
	// Device is the interface that gets the addresses. Empty means that the node has them already.
	Device string
	// ResolvConf is a file with the resolvers for names outside of the cluster, /etc/resolv.conf if it's empty.
	// It may change at any time.
	ResolvConf string
	// Metrics counts questions and answers. Nil is no metrics.
	Metrics *Metrics
	Logger  *slog.Logger
}

func (c *Config) complete() {
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// hosts returns the addresses without their ports.
func (c *Config) hosts() []netip.Addr {
	var out []netip.Addr
	for _, a := range c.Addresses {
		out = append(out, a.Addr())
	}
	return out
}
