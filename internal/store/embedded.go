package store

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/features"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// A member that hears nothing of its leader for two to four seconds starts an election. A lone one never waits for that.
	tickMilliseconds = 250
	electionTicks    = 8
	// etcd's log makes a write durable; the database file may follow in larger and rarer steps.
	commitInterval = 500 * time.Millisecond
	// A larger value is refused with ErrTooLarge. It is etcd's default, so that what is stored here can be stored elsewhere.
	maxRequestBytes = 3 << 19
	// Proposals beyond this wait their turn, because etcd refuses them when thousands are not yet applied.
	maxProposals = 2000
	// A restart replays the log since the last snapshot. etcd refuses requests while more than 5000 entries wait.
	snapshotEntries = 2000
	// Log entries that stay in memory for a member that lags; one that lags further receives a snapshot.
	catchUpEntries = 500
	// The same while there is no other member. The first one to join begins with a snapshot, and then lags less than this.
	loneCatchUpEntries = 100
	// etcd's own quota lies beyond ours, because a write that meets it is applied and refused at once.
	quotaSlackBytes = 1 << 30
	// How long Close waits for an etcd that a fatal error has crippled.
	brokenStopTimeout = 2 * time.Second
)

// setSegmentSize sets etcd's process-wide segment size once, before the first server starts.
var setSegmentSize = sync.OnceFunc(func() { wal.SegmentSizeBytes = walSegmentBytes })

// embedded is an etcd member in this process, called directly: no client listener, no gRPC.
type embedded struct {
	server *etcdserver.EtcdServer
	peers  *peerServer

	broken    chan struct{} // closed by a fatal log line
	brokenErr error
	breakOnce sync.Once

	remap     sync.Mutex    // held while the database file is, or must not be, mapped anew
	proposals chan struct{} // holds a token for each proposal under way
	aloneAt   atomic.Uint64 // what alone found, and the index at which it did
	segments  *segments

	ended chan struct{} // closed when etcd has ended, for whatever reason
	wait  sync.WaitGroup
}

// openEmbedded starts the member and returns when it can serve.
func openEmbedded(ctx context.Context, cfg Config) (*embedded, error) {
	setSegmentSize()
	e := &embedded{
		broken: make(chan struct{}), ended: make(chan struct{}),
		proposals: make(chan struct{}, maxProposals),
	}
	lg := newZapLogger(cfg.Logger, e.fail)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	sc, err := serverConfig(cfg, lg)
	if err != nil {
		return nil, err
	}
	if e.peers, err = listenForPeers(cfg, sc.PeerTLSInfo); err != nil {
		return nil, err
	}
	if err := e.newServer(ctx, sc); err != nil {
		e.peers.close()
		return nil, err
	}
	if len(e.server.Cluster().Members()) == 1 {
		e.server.Cfg.SnapshotCatchUpEntries = loneCatchUpEntries
	}
	e.server.Start()
	e.segments = newSegments(sc.WALDir())
	e.wait.Go(e.watchEnd)
	e.wait.Go(func() {
		e.segments.fill(e.ended, func(err error) { cfg.Logger.Debug("the log's next segment is left to etcd", "error", err) })
	})
	e.peers.serve(etcdhttp.NewPeerHandler(lg, e.server))
	if err := e.becomeReady(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if err := e.publishPeerURL(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// newServer makes the etcd server on a goroutine of its own, because a fatal log line ends the goroutine it is on.
func (e *embedded) newServer(ctx context.Context, sc config.ServerConfig) error {
	if err := checkUnlocked(sc.BackendPath()); err != nil {
		return err
	}
	type made struct {
		server *etcdserver.EtcdServer
		err    error
	}
	result := make(chan made, 1)
	go func() {
		server, err := etcdserver.NewServer(sc)
		result <- made{server, err}
	}()
	select {
	case m := <-result:
		if m.err != nil {
			return fmt.Errorf("start etcd in %s: %w", sc.DataDir, m.err)
		}
		e.server = m.server
		return nil
	case <-e.broken:
		return fmt.Errorf("start etcd in %s: %w", sc.DataDir, e.brokenErr)
	case <-ctx.Done():
		// It may be waiting for the other members of its cluster, and gives up on them by itself.
		go func() {
			if m := <-result; m.server != nil {
				m.server.Cleanup()
			}
		}()
		return fmt.Errorf("start etcd in %s: %w", sc.DataDir, context.Cause(ctx))
	}
}

// checkUnlocked says so at once when the database is in use, which etcd would wait for without end.
func checkUnlocked(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the database %s is in use by another process: %w", path, err)
	}
	return nil
}

// fail records the first fatal error.
func (e *embedded) fail(err error) {
	e.breakOnce.Do(func() {
		e.brokenErr = err
		close(e.broken)
	})
}

// watchEnd closes ended when the server stops or breaks.
func (e *embedded) watchEnd() {
	defer close(e.ended)
	select {
	case <-e.server.StopNotify():
	case <-e.broken:
	}
}

// becomeReady waits until the member is part of a working cluster. A lone voter need not wait for its election
// timeout to find out that nobody leads: it is told to campaign at once.
func (e *embedded) becomeReady(ctx context.Context) error {
	retry := time.NewTicker(time.Millisecond)
	defer retry.Stop()
	id := uint64(e.server.MemberID())
	for {
		if e.alone() && e.server.Lead() == 0 && e.settled() {
			kind := raftpb.MsgTimeoutNow
			if err := e.server.Process(ctx, &raftpb.Message{Type: &kind, From: &id, To: &id}); err != nil {
				return fmt.Errorf("elect the only member: %w", err)
			}
		}
		select {
		case <-e.server.ReadyNotify():
			return nil
		case <-e.broken:
			return e.brokenErr
		case <-e.server.StopNotify():
			return errors.New("etcd stopped while it started")
		case <-ctx.Done():
			return fmt.Errorf("wait for etcd to become ready: %w", context.Cause(ctx))
		case <-retry.C:
		}
	}
}

// settled tells whether raft itself, not only etcd, has been told that all committed entries are applied. A campaign looks
// through those that are not for changes of membership, and ends the process if etcd has compacted them meanwhile.
func (e *embedded) settled() bool {
	if e.server.AppliedIndex() < e.server.CommittedIndex() {
		return false
	}
	published := expvar.Get("raft.status")
	if published == nil {
		return false
	}
	var status struct {
		ID      string `json:"id"`
		Commit  uint64 `json:"commit"`
		Applied uint64 `json:"applied"`
	}
	if err := json.Unmarshal([]byte(published.String()), &status); err != nil {
		return false
	}
	return status.ID == e.server.MemberID().String() && status.Applied >= status.Commit
}

// alone tells whether this member is the only voter: then what it has applied is all there is.
func (e *embedded) alone() bool {
	// Members change by what is applied: the answer holds as long as nothing has been.
	index := e.server.AppliedIndex()
	if seen := e.aloneAt.Load(); seen>>1 == index {
		return seen&1 == 1
	}
	members := e.server.Cluster().Members()
	alone := len(members) == 1 && members[0].ID == e.server.MemberID() && !members[0].IsLearner
	seen := index << 1
	if alone {
		seen |= 1
	}
	e.aloneAt.Store(seen)
	return alone
}

// publishPeerURL tells the cluster when this member's peer address has changed since its last start.
func (e *embedded) publishPeerURL(ctx context.Context, cfg Config) error {
	self := e.server.Cluster().Member(e.server.MemberID())
	if self == nil || e.peers == nil || len(self.PeerURLs) == 1 && self.PeerURLs[0] == cfg.PeerURL {
		return nil
	}
	m := membership.Member{ID: self.ID, RaftAttributes: membership.RaftAttributes{PeerURLs: []string{cfg.PeerURL}}}
	if _, err := e.server.UpdateMember(ctx, m); err != nil {
		return fmt.Errorf("publish the peer address %s: %w", cfg.PeerURL, err)
	}
	return nil
}

func (e *embedded) stopped() <-chan struct{} { return e.ended }

func (e *embedded) failure() error {
	select {
	case <-e.broken:
		return e.brokenErr
	default:
		return errors.New("etcd stopped")
	}
}

// close stops the member. After a fatal error etcd's own goroutines may hold locks for ever; then close gives up on
// them after a moment, and the data directory stays locked until the process ends.
func (e *embedded) close() error {
	defer e.peers.close()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		e.server.Stop()
	}()
	select {
	case <-stop:
		e.wait.Wait()
		return nil
	case <-e.broken:
	}
	grace := time.NewTimer(brokenStopTimeout)
	defer grace.Stop()
	select {
	case <-stop:
		e.wait.Wait()
		return nil
	case <-grace.C:
		return fmt.Errorf("etcd could not be stopped in order after: %w", e.brokenErr)
	}
}

// serverConfig spells out how the member runs.
func serverConfig(cfg Config, lg *zap.Logger) (config.ServerConfig, error) {
	peers, err := types.NewURLs([]string{cfg.PeerURL})
	if err != nil {
		return config.ServerConfig{}, fmt.Errorf("peer URL %q: %w", cfg.PeerURL, err)
	}
	members := types.URLsMap{cfg.Name: peers}
	if cfg.Join != nil {
		members = types.URLsMap{}
		for name, u := range cfg.Join.Members {
			if members[name], err = types.NewURLs([]string{u}); err != nil {
				return config.ServerConfig{}, fmt.Errorf("peer URL %q of %s: %w", u, name, err)
			}
		}
	}
	return config.ServerConfig{
		Name:                        cfg.Name,
		DataDir:                     filepath.Join(cfg.Dir, "etcd"),
		PeerURLs:                    peers,
		InitialPeerURLsMap:          members,
		InitialClusterToken:         "clipper",
		NewCluster:                  cfg.Join == nil,
		ForceNewCluster:             cfg.ForceNewCluster,
		PeerTLSInfo:                 peerTLSInfo(cfg.PeerTLS, lg),
		TickMs:                      tickMilliseconds,
		ElectionTicks:               electionTicks,
		InitialElectionTickAdvance:  true,
		PreVote:                     true,
		StrictReconfigCheck:         true,
		MaxLearners:                 membership.DefaultMaxLearners,
		SnapshotCount:               snapshotEntries,
		SnapshotCatchUpEntries:      catchUpEntries,
		MaxSnapFiles:                2,
		MaxWALFiles:                 2,
		BackendBatchInterval:        commitInterval,
		BackendBatchLimit:           10000,
		BackendFreelistType:         bolt.FreelistMapType,
		QuotaBackendBytes:           cfg.QuotaBytes + quotaSlackBytes,
		MaxTxnOps:                   1024,
		MaxRequestBytes:             maxRequestBytes,
		MaxConcurrentStreams:        1000,
		WarningApplyDuration:        500 * time.Millisecond,
		WarningUnaryRequestDuration: time.Second,
		CompactHashCheckTime:        time.Minute,
		DowngradeCheckTime:          time.Minute,
		BcryptCost:                  10,
		Logger:                      lg,
		V2Deprecation:               config.V2DeprDefault,
		ServerFeatureGate:           features.NewDefaultServerFeatureGate(cfg.Name, lg),
		Metrics:                     "basic",
	}, nil
}

func peerTLSInfo(t PeerTLS, lg *zap.Logger) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: t.CertFile, KeyFile: t.KeyFile, TrustedCAFile: t.CAFile,
		ClientCertAuth: t.CAFile != "",
		Logger:         lg,
	}
}

// peerServer serves the other members. It is nil for a member that has no address, which therefore is the only one.
type peerServer struct {
	listener net.Listener
	http     *http.Server
	wait     sync.WaitGroup
}

func listenForPeers(cfg Config, tls transport.TLSInfo) (*peerServer, error) {
	address := cfg.ListenPeerURL
	if address == "" {
		address = cfg.PeerURL
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("peer URL %q: %w", address, err)
	}
	if u.Port() == "0" {
		return nil, nil
	}
	l, err := transport.NewListenerWithOpts(u.Host, u.Scheme,
		transport.WithTLSInfo(&tls),
		transport.WithTimeout(rafthttp.ConnReadTimeout, rafthttp.ConnWriteTimeout))
	if err != nil {
		return nil, fmt.Errorf("listen for etcd peers at %s: %w", address, err)
	}
	return &peerServer{listener: l}, nil
}

func (p *peerServer) serve(h http.Handler) {
	if p == nil {
		return
	}
	p.http = &http.Server{Handler: h, ReadTimeout: 5 * time.Minute}
	p.wait.Go(func() { _ = p.http.Serve(p.listener) })
}

func (p *peerServer) close() {
	if p == nil {
		return
	}
	if p.http != nil {
		_ = p.http.Close()
	}
	_ = p.listener.Close()
	p.wait.Wait()
}
