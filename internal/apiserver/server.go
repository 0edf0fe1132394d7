package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/packed"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/apiserver/usage"
	"clipper.dev/clipper/internal/exposition"
	"clipper.dev/clipper/internal/store"
)

// Server is the API engine. Make it with New.
type Server struct {
	cfg        Config
	catalog    atomic.Pointer[catalog]
	security   atomic.Pointer[security]
	remotes    atomic.Pointer[Remotes]
	metrics    *metrics
	started    time.Time
	fairness   *fairness.Controller
	frames     frameFormats
	health     healthChecks
	components healthChecks // of componentstatuses
	turns      turnstile
	packed     packed.Cache
	usage      *usage.Reader // of what nodes and their pods use

	mu       sync.Mutex // guards changes of the catalog, kinds, routes and watchers
	kinds    map[string]*stored.Kind
	routes   []route
	watchers map[int]func()
	nextID   int

	stop     context.Context // ends when Run does: streams end with it
	stopNow  context.CancelFunc
	inFlight inFlight
}

// New opens a table for every row and returns a server that is ready to be used by Clients.
func New(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.Store == nil {
		return nil, errors.New("apiserver: no store given")
	}
	s := &Server{cfg: cfg, started: time.Now(), kinds: map[string]*stored.Kind{}, watchers: map[int]func(){}}
	s.metrics = newMetrics(cfg.Metrics, s.started)
	s.stop, s.stopNow = context.WithCancel(context.Background())
	s.turns.init()
	s.usage = usage.New(s.kubeletMetrics)
	s.fairness = fairness.New(fairness.Config{Seats: cfg.MaxInFlight + cfg.MaxMutatingInFlight, Objects: s.extent, Logger: cfg.Logger})
	cfg.Metrics.MustRegister(s.fairness, extents{s}, exposition.BuildInfo(cfg.Version), exposition.VersionInfo(cfg.Version))
	s.Handle(s.fairness.Dumps())
	s.health.slis = exposition.NewSLIs(s.started)
	s.health.addDefaults(s)
	if !cfg.NoProfiles {
		s.Handle("/debug/pprof/", profiles())
	}
	s.Install(cfg.Security)
	resources, err := s.openTables(ctx, cfg.Rows)
	if err != nil {
		return nil, err
	}
	c, err := newCatalog(resources)
	if err != nil {
		return nil, err
	}
	s.catalog.Store(c)
	return s, nil
}

// openTables makes the resources of rows and loads their tables, several at a time.
func (s *Server) openTables(ctx context.Context, rows []*api.Resource) ([]*resource, error) {
	resources := make([]*resource, len(rows))
	all := slices.Concat(s.rows(), rows)
	// Rows that hold the stored version come first, so that a shared table is made with its own defaulting.
	order := slices.Clone(rows)
	slices.SortStableFunc(order, func(a, b *api.Resource) int { return foreign(a) - foreign(b) })
	made := map[*api.Resource]*resource{}
	for _, row := range order {
		r, err := newResource(row, all, s.kinds)
		if err != nil {
			return nil, err
		}
		made[row] = r
	}
	byPrefix := map[string][]*resource{}
	for i, row := range rows {
		resources[i] = made[row]
		if row.Prefix != "" {
			byPrefix[row.Prefix] = append(byPrefix[row.Prefix], made[row])
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for prefix, sharers := range byPrefix {
		g.Go(func() error {
			t, err := s.openTable(gctx, prefix, sharers)
			if err != nil {
				return fmt.Errorf("open the table of %s: %w", prefix, err)
			}
			for _, r := range sharers {
				r.table = t
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return resources, nil
}

func foreign(row *api.Resource) int {
	if row.StoredAs.Empty() || row.StoredAs.Group == row.Group {
		return 0
	}
	return 1
}

func (s *Server) openTable(ctx context.Context, prefix string, sharers []*resource) (*store.Table, error) {
	cfg := store.TableConfig{Prefix: prefix, Kind: sharers[0].kind}
	for _, r := range sharers {
		if s.cfg.Transformer != nil {
			if t := s.cfg.Transformer(r.gr()); t != nil {
				cfg.Transformer = t
			}
		}
		for _, index := range r.row.Indexed {
			if !slices.Contains(cfg.Indexes, index) {
				cfg.Indexes = append(cfg.Indexes, index)
			}
		}
	}
	return s.cfg.Store.AddTable(ctx, cfg)
}

func (s *Server) rows() []*api.Resource {
	c := s.catalog.Load()
	if c == nil {
		return nil
	}
	rows := make([]*api.Resource, len(c.resources))
	for i, r := range c.resources {
		rows[i] = r.row
	}
	return rows
}

// AddRows serves further kinds from now on.
func (s *Server) AddRows(ctx context.Context, rows ...*api.Resource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, err := s.openTables(ctx, rows)
	if err != nil {
		return err
	}
	return s.replaceCatalog(slices.Concat(s.catalog.Load().resources, added))
}

// RemoveRow stops serving a kind. What is stored of it stays.
func (s *Server) RemoveRow(gr schema.GroupResource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []*resource
	prefix := ""
	for _, r := range s.catalog.Load().resources {
		if r.gr() == gr {
			prefix = r.row.Prefix
			continue
		}
		kept = append(kept, r)
	}
	if err := s.replaceCatalog(kept); err != nil {
		return err
	}
	shared := slices.ContainsFunc(kept, func(r *resource) bool { return r.row.Prefix == prefix })
	if prefix != "" && !shared {
		s.cfg.Store.RemoveTable(prefix)
		delete(s.kinds, prefix)
	}
	return nil
}

// ReplaceRow serves a kind by another row from now on, or for the first time. Its table is read anew, so that what a changed
// schema says of stored objects holds for all; watches on it end.
func (s *Server) ReplaceRow(ctx context.Context, row *api.Resource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	gr := schema.GroupResource{Group: row.Group, Resource: row.Name}
	var kept []*resource
	for _, r := range s.catalog.Load().resources {
		if r.gr() != gr {
			kept = append(kept, r)
		}
	}
	if slices.ContainsFunc(kept, func(r *resource) bool { return r.row.Prefix == row.Prefix }) {
		return fmt.Errorf("replace the row of %s: its table is shared", gr)
	}
	s.cfg.Store.RemoveTable(row.Prefix)
	delete(s.kinds, row.Prefix)
	added, err := s.openTables(ctx, []*api.Resource{row})
	if err != nil {
		return errors.Join(err, s.replaceCatalog(kept))
	}
	return s.replaceCatalog(append(kept, added...))
}

// replaceCatalog publishes a changed list of resources. s.mu is held.
func (s *Server) replaceCatalog(resources []*resource) error {
	c, err := newCatalog(resources)
	if err != nil {
		return err
	}
	s.catalog.Store(c)
	for _, changed := range s.watchers {
		changed()
	}
	return nil
}

// Install sets who may do what. It replaces what Config or an earlier call gave.
func (s *Server) Install(sec Security) { s.security.Store(newSecurity(sec, s.metrics.admission)) }

// Handle serves a path outside /api and /apis ("/openapi/v3"), or everything below it if the pattern ends in a slash.
// Requests are authenticated and authorized as for any other path. If types are given, others than these can't be asked for.
func (s *Server) Handle(pattern string, h http.Handler, types ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = append(slices.Clip(s.routes), route{pattern, h, types})
}

// Run ends watches and streams when ctx ends, and returns once the requests that were in flight then have been answered.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.stopNow()
	s.inFlight.wait()
	return nil
}

// inFlight counts requests until somebody waits for them. Those that come later are served, but not waited for: it is
// the listener's part to let none come.
type inFlight struct {
	mu      sync.Mutex
	waiting bool
	group   sync.WaitGroup
}

func (f *inFlight) enter() (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting {
		return func() {}
	}
	f.group.Add(1)
	return f.group.Done
}

func (f *inFlight) wait() {
	f.mu.Lock()
	f.waiting = true
	f.mu.Unlock()
	f.group.Wait()
}
