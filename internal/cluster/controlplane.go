package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission/plugins"
	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all" // every kind
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/aggregator"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/apiserver/crd"
	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/managed"
	"clipper.dev/clipper/internal/apiserver/openapi"
	"clipper.dev/clipper/internal/authn"
	"clipper.dev/clipper/internal/authz"
	"clipper.dev/clipper/internal/authz/bootstrap"
	nodeauthz "clipper.dev/clipper/internal/authz/node"
	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/h2"
	"clipper.dev/clipper/internal/hook"
	"clipper.dev/clipper/internal/pki"
	"clipper.dev/clipper/internal/quota"
	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/encryption"
)

// engineUser is whom the API server itself acts as.
var engineUser = api.UserInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// controlPlane is the API with everything that it stands on.
type controlPlane struct {
	opts      *ServerOptions
	nodeIP    netip.Addr
	metrics   *prometheus.Registry
	log       *slog.Logger
	keys      *pki.Keys
	store     *store.Store
	engine    *apiserver.Server
	tracker   *managed.Tracker
	authn     *authn.Authenticator
	rbac      *rbac.Authorizer
	authz     *authz.Current
	whoMay    whoMay
	atRest    *encryption.Current
	begun     atomic.Bool // every cluster's objects are there
	crds      *crd.Manager
	remote    *aggregator.Manager // servers of further groups
	documents *openapi.Documents
	audit     *audit.Auditor   // nil unless requests are recorded
	ledger    *quota.Ledger    // what requests under way have reserved of quotas
	fair      fairness.Objects // flow schemas and priority levels of every cluster
}

// openKeys opens the certificates, which everything else needs first.
func openKeys(o *ServerOptions, nodeIP netip.Addr) (*pki.Keys, error) {
	l := o.Layout
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain, "localhost", o.NodeName}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, nodeIP.AsSlice(), l.ServiceIP(1).AsSlice(), l.NodeIP(1).AsSlice()}
	for _, san := range o.ExtraSANs {
		if ip := net.ParseIP(san); ip != nil {
			ips = append(ips, ip)
			continue
		}
		names = append(names, san)
	}
	keys, err := pki.Open(l.PKIDir(), pki.Options{ClusterName: l.Name, Names: names, IPs: ips})
	if err != nil {
		return nil, fmt.Errorf("open the certificates in %s: %w", l.PKIDir(), err)
	}
	return keys, nil
}

// clusterDomain is the DNS domain of Services and pods.
const clusterDomain = "cluster.local"

// openStore opens the database.
func openStore(ctx context.Context, o *ServerOptions, keys *pki.Keys, nodeIP netip.Addr) (*store.Store, error) {
	cfg := store.Config{
		Dir: o.Layout.EtcdDir(), Name: o.NodeName, Logger: o.Logger.With("component", "store"),
		Endpoints: o.EtcdEndpoints,
	}
	if len(cfg.Endpoints) > 0 {
		tls, err := clientTLS(o.EtcdCAFile, o.EtcdCertFile, o.EtcdKeyFile)
		if err != nil {
			return nil, err
		}
		cfg.TLS = tls
	} else {
		dir := o.Layout.PKIDir() + "/etcd/"
		cfg.PeerURL = "https://" + netip.AddrPortFrom(nodeIP, uint16(o.Layout.PeerPort)).String()
		cfg.PeerTLS = store.PeerTLS{CertFile: dir + "peer.crt", KeyFile: dir + "peer.key", CAFile: dir + "ca.crt"}
	}
	s, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return s, nil
}

func clientTLS(ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// pack makes long-lived memory lie together, and lets go of what is kept only because it was used lately.
func (p *controlPlane) pack() {
	p.store.Pack()
	p.tracker.Release()
}

// openEngine makes the API server and everything that decides who may do what. It serves nobody yet.
func (p *controlPlane) openEngine(ctx context.Context) (err error) {
	l := p.opts.Layout
	if err := p.openEncryption(ctx); err != nil {
		return fmt.Errorf("open encryption at rest: %w", err)
	}
	p.tracker, err = managed.New(api.Registered(), p.log.With("component", "apiserver"))
	if err != nil {
		return fmt.Errorf("open field management: %w", err)
	}
	p.audit, err = audit.Open(p.opts.Audit, audit.NewMetrics(p.metrics), p.log.With("component", "audit"))
	if err != nil {
		return fmt.Errorf("open the audit: %w", err)
	}
	kubelets, err := openKubelets(p, p.opts.KubeletCAFile)
	if err != nil {
		return err
	}
	p.engine, err = apiserver.New(ctx, apiserver.Config{
		Store: p.store, Metrics: p.metrics, Rows: api.Registered(), Logger: p.log.With("component", "apiserver"), Transformer: p.atRest.For,
		Kubelets: kubelets, Address: p.address(), Tracker: p.tracker, MaxInFlight: p.opts.MaxInFlight, MaxMutatingInFlight: p.opts.MaxMutatingInFlight,
		Auditor: p.audit, Flags: p.opts.shown(), RequestTimeout: p.opts.RequestTimeout, MinWatch: time.Duration(p.opts.MinRequestSeconds) * time.Second,
		EventTTL: p.opts.EventTTL, NoProfiles: !p.opts.Profiling,
	})
	if err != nil {
		return fmt.Errorf("open the API server: %w", err)
	}
	p.engine.AddCheck("poststarthook/rbac/bootstrap-roles", false, func(context.Context) error {
		if !p.begun.Load() {
			return errors.New("not finished")
		}
		return nil
	})
	for _, c := range p.atRest.Checks() {
		p.engine.AddCheck(c.Name, true, c.Do)
	}
	self := p.engine.Client(engineUser)
	services, err := hook.NewResolver(ctx, self)
	if err != nil {
		return fmt.Errorf("follow services: %w", err)
	}
	hooks := hook.New(services)
	p.crds, err = crd.New(ctx, crd.Config{Server: p.engine, Client: self, Hooks: hooks, Metrics: p.metrics, Logger: p.log.With("component", "apiextensions")})
	if err != nil {
		return fmt.Errorf("serve custom resources: %w", err)
	}
	objects, err := bootstrap.Load()
	if err != nil {
		return err
	}
	p.fair = fairness.Objects{Schemas: objects.FlowSchemas, Levels: objects.PriorityLevels}
	p.remote, err = aggregator.New(ctx, aggregator.Config{
		Client: self, Local: p.engine.LocalGroupVersions, Resolver: services, ClientTLS: p.keys.ClientTLS(pki.FrontProxyClient), Metrics: p.metrics,
		Logger: p.log.With("component", "aggregator"),
	})
	if err != nil {
		return fmt.Errorf("open the aggregation of API servers: %w", err)
	}
	p.engine.SetRemotes(p.remote)
	who := authn.Config{
		ClientCA: func() *x509.CertPool { return p.keys.Authority().Pool() },
		Issuers:  p.opts.Issuers, MaxTokenLife: p.opts.MaxTokenLife, JWKSURI: p.opts.JWKSURI,
		TokenKey: p.keys.TokenKey(), TokenVerifyKeys: p.keys.TokenVerifyKeys(),
		JWKSAddress: net.JoinHostPort(p.nodeIP.String(), strconv.Itoa(l.APIPort)),
		Metrics:     p.metrics,
		Logger:      p.log.With("component", "authn"),
	}
	if err := p.openAuthentication(ctx, &who); err != nil {
		return fmt.Errorf("open authentication: %w", err)
	}
	if p.authn, err = authn.New(ctx, self, who); err != nil {
		return fmt.Errorf("open authentication: %w", err)
	}
	if p.rbac, err = rbac.New(ctx, self); err != nil {
		return fmt.Errorf("open RBAC: %w", err)
	}
	nodes, err := nodeauthz.New(ctx, self)
	if err != nil {
		return fmt.Errorf("open the node authorizer: %w", err)
	}
	p.ledger = &quota.Ledger{}
	if err := p.openAuthorization(authz.Builtin{Node: nodes, RBAC: p.rbac}); err != nil {
		return fmt.Errorf("open authorization: %w", err)
	}
	dynamic, err := p.dynamicAdmission(ctx, hooks)
	if err != nil {
		return fmt.Errorf("open webhooks and policies: %w", err)
	}
	chosen, err := p.opts.plugins()
	if err != nil {
		return fmt.Errorf("choose the admission plugins: %w", err)
	}
	chosen.Dynamic, chosen.Authorizer, chosen.RBAC, chosen.Ledger, chosen.Metrics = dynamic, p.authz, p.rbac, p.ledger, p.metrics
	chain, err := plugins.Default(ctx, self, chosen)
	if err != nil {
		return fmt.Errorf("open admission: %w", err)
	}
	impersonator := authn.NewImpersonator(p.authz, authn.NewImpersonationMetrics(p.metrics))
	p.engine.Install(apiserver.Security{
		Authenticator: p.authn,
		Impersonate: func(ctx context.Context, r *http.Request, a authorizer.Attributes) (user.Info, string, error) {
			return impersonator.Impersonate(ctx, r.Header, a)
		},
		Authorizer: p.authz,
		Admission:  chain,
		RulesFor: func(ctx context.Context, u api.UserInfo, namespace string) (any, error) {
			return authz.RulesReview(ctx, p.authz, u, namespace), nil
		},
		CheckToken: p.authn.ReviewToken,
		IssueToken: p.authn.IssueToken,
	})
	p.documents = openapi.New(openapi.Config{Served: p.engine.Served, Additions: p.remote.Documents})
	p.documents.Install(p.engine)
	p.serveDocument(authn.OpenIDConfigurationPath, "application/json", p.authn.OpenIDConfiguration)
	p.serveDocument(authn.JWKSPath, authn.JWKSContentType, p.authn.JWKS)
	return nil
}

func (p *controlPlane) serveDocument(path, contentType string, document func() ([]byte, error)) {
	p.engine.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data, err := document()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", authn.DiscoveryMaxAgeSeconds))
		w.Write(data)
	}), contentType)
}

func (p *controlPlane) address() string {
	return net.JoinHostPort(p.nodeIP.String(), strconv.Itoa(p.opts.Layout.APIPort))
}

// serve answers requests on the listener until ctx ends, and then lets those under way finish.
func (p *controlPlane) serve(ctx context.Context, listener net.Listener) error {
	secured := p.keys.ServerTLS()
	if err := p.opts.secure(secured); err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	server := &http.Server{
		Handler: p.engine.Handler(), TLSConfig: secured,
		ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 1 << 20,
		ErrorLog: handshakeErrors(p.metrics, slog.NewLogLogger(p.log.With("component", "apiserver").Handler(), slog.LevelDebug)),
	}
	new(h2.Server).Configure(server)
	var g errgroup.Group
	g.Go(func() error {
		if err := server.ServeTLS(h2.Listen(listener), "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	})
	g.Go(func() error { return p.atRest.Run(ctx) })
	for _, f := range p.whoMay.follow {
		g.Go(func() error { return f.Run(ctx) })
	}
	g.Go(func() error {
		<-ctx.Done()
		p.whoMay.issuers.Wait()
		return nil
	})
	g.Go(func() error {
		err := p.engine.Run(ctx)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			server.Close()
		}
		return err
	})
	return g.Wait()
}

// bootstrapObjects makes what every cluster has.
func (p *controlPlane) bootstrapObjects(ctx context.Context) error {
	self := p.engine.Client(engineUser)
	var g errgroup.Group
	g.Go(func() error { return bootstrap.Apply(ctx, self, p.rbac) })
	g.Go(func() error { return fairness.Ensure(ctx, self, p.fair) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("make the objects of every cluster: %w", err)
	}
	if err := applySystemObjects(ctx, self, p); err != nil {
		return err
	}
	p.begun.Store(true)
	return nil
}
