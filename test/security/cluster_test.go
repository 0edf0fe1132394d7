package security

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"clipper.dev/clipper/internal/admission/plugins"
	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/authn"
	"clipper.dev/clipper/internal/authz"
	"clipper.dev/clipper/internal/authz/bootstrap"
	"clipper.dev/clipper/internal/authz/node"
	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/clusterroleaggregation"
	"clipper.dev/clipper/internal/controller/csrapproving"
	"clipper.dev/clipper/internal/controller/csrsigning"
	"clipper.dev/clipper/internal/controller/resourcequota"
	"clipper.dev/clipper/internal/controller/rootcapublisher"
	"clipper.dev/clipper/internal/controller/serviceaccount"
	"clipper.dev/clipper/internal/controller/serviceaccounttoken"
	"clipper.dev/clipper/internal/pki"
	"clipper.dev/clipper/internal/quota"
	"clipper.dev/clipper/internal/store/encryption"
	"clipper.dev/clipper/internal/store/storetest"
)

// cluster is an API server with everything that decides who may do what.
type cluster struct {
	t      *testing.T
	keys   *pki.Keys
	url    string
	admin  *kubernetes.Clientset
	server *http.Server
}

func userInfo(name string, groups ...string) api.UserInfo {
	return api.UserInfo{Name: name, Groups: append(groups, user.AllAuthenticated)}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	keys, err := pki.Open(filepath.Join(dir, "pki"), pki.Options{ClusterName: "test"})
	must(t, err)
	secrets, err := encryption.Open(ctx, encryption.Options{Path: filepath.Join(dir, "encryption.yaml"), Create: true})
	must(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	engine, err := apiserver.New(ctx, apiserver.Config{
		Store: storetest.New(t), Rows: api.Registered(), Logger: log,
		Transformer: secrets.For,
	})
	must(t, err)
	c := &cluster{t: t, keys: keys}
	ledger := &quota.Ledger{}
	self := engine.Client(userInfo(user.APIServerUser, user.SystemPrivilegedGroup))
	an, roles, az := c.secure(ctx, engine, self, ledger)
	running := make(chan error, 2)
	go func() { running <- engine.Run(ctx) }()
	must(t, bootstrap.Apply(ctx, self, roles))
	ca := func() []byte { return keys.Authority().PEM() }
	ready := make(chan struct{})
	go func() {
		running <- controller.Run(ctx, controller.Options{
			Client: func(name string) client.Client {
				return controllerClient{engine.Client(userInfo(name, "system:serviceaccounts", "system:serviceaccounts:kube-system")), engine.Client(userInfo("system:kube-controller-manager"))}
			},
			Logger: log, Ready: func(controller.Graph) { close(ready) },
		}, []controller.Constructor{
			csrapproving.Constructor(az), csrapproving.ServingConstructor(), csrsigning.Constructor(keys.Authority), serviceaccount.Constructor(),
			serviceaccounttoken.Constructor(an.IssueLegacyToken, ca), rootcapublisher.Constructor(ca), clusterroleaggregation.Constructor(), resourcequota.Constructor(ledger),
		})
	}()
	c.listen(engine.Handler())
	t.Cleanup(func() {
		c.server.Close()
		cancel()
		for range 2 {
			if err := <-running; err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		roles.Wait()
	})
	select {
	case <-ready:
	case err := <-running:
		t.Fatalf("the controllers did not start: %v", err)
	}
	c.admin = c.as(c.cert("admin", user.SystemPrivilegedGroup))
	return c
}

// controllerClient watches as the manager of all controllers and does everything else as one of them, as in upstream.
type controllerClient struct {
	client.Client
	views client.Client
}

func (c controllerClient) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	return c.views.View(ctx, gvr, sel)
}

// secure puts authentication, authorization and admission together.
func (c *cluster) secure(ctx context.Context, engine *apiserver.Server, self client.Client, ledger *quota.Ledger) (*authn.Authenticator, *rbac.Authorizer, authz.Union) {
	an, err := authn.New(ctx, self, authn.Config{
		ClientCA: func() *x509.CertPool { return c.keys.Authority().Pool() },
		TokenKey: c.keys.TokenKey(), TokenVerifyKeys: c.keys.TokenVerifyKeys(), JWKSAddress: "127.0.0.1",
	})
	must(c.t, err)
	roles, err := rbac.New(ctx, self)
	must(c.t, err)
	nodes, err := node.New(ctx, self)
	must(c.t, err)
	az := authz.Union{authz.Masters{}, nodes, roles}
	chain, err := plugins.Default(ctx, self, plugins.Options{Authorizer: az, RBAC: roles, Ledger: ledger})
	must(c.t, err)
	impersonator := authn.NewImpersonator(az, nil)
	engine.Install(apiserver.Security{
		Authenticator: an,
		Impersonate: func(ctx context.Context, r *http.Request, a authorizer.Attributes) (user.Info, string, error) {
			return impersonator.Impersonate(ctx, r.Header, a)
		},
		Authorizer: az, Admission: chain, CheckToken: an.ReviewToken, IssueToken: an.IssueToken,
		RulesFor: func(ctx context.Context, u api.UserInfo, namespace string) (any, error) {
			return authz.RulesReview(ctx, az, u, namespace), nil
		},
	})
	return an, roles, az
}

func (c *cluster) listen(h http.Handler) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(c.t, err)
	c.url = "https://" + ln.Addr().String()
	c.server = &http.Server{Handler: h, TLSConfig: c.keys.ServerTLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go c.server.ServeTLS(ln, "", "")
}

// cert gives a user a client certificate.
func (c *cluster) cert(name string, groups ...string) func(*rest.Config) {
	c.t.Helper()
	cert, err := c.keys.Authority().Issue(pki.Subject{CommonName: name, Organizations: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, time.Now())
	must(c.t, err)
	return func(cfg *rest.Config) {
		key, err := pki.KeyPEM(cert.PrivateKey.(crypto.Signer))
		must(c.t, err)
		cfg.CertData, cfg.KeyData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw}), key
	}
}

func token(t string) func(*rest.Config) { return func(cfg *rest.Config) { cfg.BearerToken = t } }

func (c *cluster) config(changes ...func(*rest.Config)) *rest.Config {
	cfg := &rest.Config{Host: c.url, TLSClientConfig: rest.TLSClientConfig{CAData: c.keys.Authority().PEM()}, QPS: -1}
	for _, f := range changes {
		f(cfg)
	}
	return cfg
}

// as returns a client for whoever the changes make it.
func (c *cluster) as(changes ...func(*rest.Config)) *kubernetes.Clientset {
	c.t.Helper()
	cs, err := kubernetes.NewForConfig(c.config(changes...))
	must(c.t, err)
	return cs
}

func (c *cluster) namespace(name string) {
	c.t.Helper()
	_, err := c.admin.CoreV1().Namespaces().Create(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(c.t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks again until the condition holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(end) {
			t.Fatalf("%s: did not come about", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
