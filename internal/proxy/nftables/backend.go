package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/google/nftables"

	"clipper.dev/clipper/internal/nft"
	"clipper.dev/clipper/internal/proxy"
)

// DefaultMasqueradeMark is the packet mark's bit that upstream uses for the same purpose.
const DefaultMasqueradeMark = 0x4000

// Config says how the backend's tables look.
type Config struct {
	// Table is the name of the tables, one in each family.
	Table string
	// ClusterCIDRs are where pods' addresses are. Connections from elsewhere are masqueraded on their way to an
	// endpoint, unless a Service wants the client's address. Without any, pods and others aren't told apart and only
	// connections from outside are masqueraded.
	ClusterCIDRs []netip.Prefix
	// ServiceCIDRs are where Services' cluster addresses are. Connections to such an address that no Service has are rejected.
	ServiceCIDRs []netip.Prefix
	// MasqueradeMark is the bit of the packet mark that is used between the tables' own chains. 0 means DefaultMasqueradeMark.
	MasqueradeMark uint32
	Logger         *slog.Logger
}

// Backend implements proxy.Backend.
type Backend struct {
	log    *slog.Logger
	tables map[bool]*table // by whether it's IPv6
}

var _ proxy.Backend = (*Backend)(nil)

// New connects to the kernel. It changes nothing before the first Sync.
func New(cfg Config) (*Backend, error) {
	if cfg.Table == "" {
		return nil, errors.New("nftables configuration lacks a table name")
	}
	if cfg.MasqueradeMark == 0 {
		cfg.MasqueradeMark = DefaultMasqueradeMark
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Backend{log: cfg.Logger, tables: make(map[bool]*table)}
	for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
		conn, err := nft.Open()
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.tables[f.AddrLen == 16] = newTable(conn, f, cfg)
	}
	return b, nil
}

// Sync implements proxy.Backend.
func (b *Backend) Sync(ctx context.Context, changes []proxy.Change) error {
	byFamily := map[bool][]proxy.Change{}
	for _, c := range changes {
		v6 := c.Key().IPv6
		byFamily[v6] = append(byFamily[v6], c)
	}
	var errs []error
	for v6, t := range b.tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.sync(byFamily[v6]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close implements proxy.Backend.
func (b *Backend) Close() error {
	var errs []error
	for _, t := range b.tables {
		errs = append(errs, t.conn.Close())
	}
	return errors.Join(errs...)
}

// Purge removes the tables from the current network namespace.
func Purge(table string) error {
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
		if err := conn.DropTable(&nftables.Table{Name: table, Family: f.Table}); err != nil {
			errs = append(errs, fmt.Errorf("remove table %s: %w", table, err))
		}
	}
	return errors.Join(append(errs, conn.Close())...)
}
