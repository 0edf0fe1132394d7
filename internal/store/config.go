package store

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Config says where the database is and how the cache in front of it is bounded.
// The zero value of every field but Dir (or Endpoints) is usable.
type Config struct {
	// Dir holds the embedded etcd's data and the reserve of disk. It is made when missing.
	Dir string
	// Name is this server's name: of the etcd member and of the holder of leader keys. Default "default".
	Name string

	// PeerURL is the address that other members reach this one at, and where it listens unless ListenPeerURL is set.
	// Default http://127.0.0.1:0, which serves a single member only.
	PeerURL string
	// ListenPeerURL is where the member listens for its peers, if that differs from PeerURL.
	ListenPeerURL string
	// PeerTLS secures the traffic among members; required when PeerURL is https.
	PeerTLS PeerTLS
	// Join is set by a server that joins others: what AddMember returned on one of them. It counts on the first
	// start only; afterwards the member trusts its own log.
	Join *Join
	// ForceNewCluster makes this member the only one, with the data that it has. It is for the case that the majority of
	// the members is lost for good, for one start, while no other member runs.
	ForceNewCluster bool

	// Endpoints, if any, name an outside etcd cluster; nothing is embedded then.
	Endpoints []string
	// TLS is for the outside cluster.
	TLS *tls.Config

	// QuotaBytes bounds the database file; beyond it writes fail with ErrNoSpace. Default 6 GiB, and at most 7 GiB, because etcd goes
	// no further than 8.
	QuotaBytes int64
	// ReserveBytes of disk are kept back so that a full disk can be recovered from. Default 64 MiB; negative for none.
	ReserveBytes int64
	// CompactEvery is the interval of compaction; history between one and two intervals old stays readable.
	// Default five minutes; negative for never.
	CompactEvery time.Duration

	// LogEvents and LogBytes bound the watch logs: events for one table, bytes for all. Defaults 16384 and 32 MiB.
	// Besides, what is older than two intervals of compaction is let go, but for each table's last few hundred events.
	LogEvents int
	LogBytes  int64
	// DecodedBytes bounds the objects that stay decoded, until a load is over, though nobody uses them. Default 32 MiB.
	DecodedBytes int64

	// Logger receives what etcd and the store have to say. Default: slog.Default().
	Logger *slog.Logger
}

// PeerTLS names the files of the peers' mutual TLS.
type PeerTLS struct {
	CertFile, KeyFile, CAFile string
}

// Join tells a new member which cluster it joins.
type Join struct {
	// Members maps each member's name to its peer URL, the new one's included.
	Members map[string]string
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "default"
	}
	if c.PeerURL == "" {
		c.PeerURL = "http://127.0.0.1:0"
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = 6 << 30
	}
	c.QuotaBytes = min(c.QuotaBytes, 7<<30)
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 64 << 20
	}
	if c.CompactEvery == 0 {
		c.CompactEvery = 5 * time.Minute
	}
	if c.LogEvents == 0 {
		c.LogEvents = 16384
	}
	if c.LogBytes == 0 {
		c.LogBytes = 32 << 20
	}
	if c.DecodedBytes == 0 {
		c.DecodedBytes = 32 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
