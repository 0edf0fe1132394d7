package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Algorithms are those that tokens may be signed with where a structured configuration describes their issuer.
var Algorithms = []string{oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.RS256, oidc.RS384, oidc.RS512}

const (
	// requestTimeout bounds each request to an issuer.
	requestTimeout = 30 * time.Second
	// retryEvery is how long to wait after an issuer could not be reached.
	retryEvery = 10 * time.Second
	// maxKeySetBytes bounds what is read of an issuer's answers.
	maxAnswerBytes = 4 << 20
)

// Options are what an authenticator's configuration does not say.
type Options struct {
	Compiler authenticationcel.Compiler
	// Algorithms are those that tokens may be signed with; empty is RS256.
	Algorithms []string
	// DisallowedIssuers are those of this cluster's own tokens.
	DisallowedIssuers []string
	Metrics           *Metrics // nil measures nothing
	Logger            *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Issuer believes one issuer's tokens.
type Issuer struct {
	cfg      apiserver.JWTAuthenticator
	mapper   authenticationcel.CELMapper
	client   *http.Client
	verify   oidc.Config
	sources  *sources // of distributed claims; nil without a groups claim
	metrics  *Metrics
	log      *slog.Logger
	verifier atomic.Pointer[verifier]
	health   atomic.Pointer[error]
	ready    chan struct{} // closed when the issuer was reached
}

var _ authenticator.Token = (*Issuer)(nil)

// New returns an authenticator. It believes nobody before Run has reached the issuer.
func New(ctx context.Context, cfg apiserver.JWTAuthenticator, o Options) (*Issuer, error) {
	if o.Compiler == nil {
		o.Compiler = authenticationcel.NewDefaultCompiler()
	}
	mapper, errs := validation.CompileAndValidateJWTAuthenticator(o.Compiler, cfg, o.DisallowedIssuers)
	if err := errs.ToAggregate(); err != nil {
		return nil, err
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{oidc.RS256}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{cfg: cfg, mapper: mapper, metrics: o.Metrics, log: o.Logger, ready: make(chan struct{})}
	var err error
	if i.client, err = i.newClient(); err != nil {
		return nil, err
	}
	// The audience is checked here: the library knows only one.
	i.verify = oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: o.Algorithms, Now: o.Now}
	if cfg.ClaimMappings.Groups.Claim != "" {
		i.sources = newSources(ctx, i)
	}
	i.setHealth(fmt.Errorf("oidc: authenticator for issuer %q is not initialized", cfg.Issuer.URL))
	return i, nil
}

// newClient makes the client that asks the issuer. It trusts the issuer's own authority, or the host's.
func (i *Issuer) newClient() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := i.cfg.Issuer.CertificateAuthority; ca != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("the certificate authority of issuer %s holds no certificate", i.cfg.Issuer.URL)
		}
	}
	var tripper http.RoundTripper = bounded{t}
	if i.cfg.Issuer.DiscoveryURL != "" {
		to, err := url.Parse(i.cfg.Issuer.DiscoveryURL)
		if err != nil {
			return nil, fmt.Errorf("oidc: invalid discovery URL: %w", err)
		}
		tripper = &elsewhere{base: tripper, from: strings.TrimSuffix(i.cfg.Issuer.URL, "/") + "/.well-known/openid-configuration", to: to}
	}
	return &http.Client{Transport: tripper, Timeout: requestTimeout}, nil
}

// elsewhere fetches the discovery document from where the configuration says.
type elsewhere struct {
	base http.RoundTripper
	from string
	to   *url.URL
}

func (e *elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.String() == e.from {
		r = r.Clone(r.Context())
		r.Host, r.URL = "", e.to
	}
	return e.base.RoundTrip(r)
}

// Run reaches the issuer, trying until it succeeds or ctx ends. The keys are fetched under ctx ever after.
func (i *Issuer) Run(ctx context.Context) {
	ctx = oidc.ClientContext(ctx, i.client)
	for {
		v, err := i.discover(ctx, i.cfg.Issuer.URL)
		if err == nil {
			i.verifier.Store(v)
			i.setHealth(nil)
			close(i.ready)
			return
		}
		if ctx.Err() != nil {
			return
		}
		i.log.Error("an OIDC issuer cannot be reached", "issuer", i.cfg.Issuer.URL, "err", err)
		i.setHealth(err)
		retry := time.NewTimer(retryEvery)
		select {
		case <-ctx.Done():
			retry.Stop()
			return
		case <-retry.C:
		}
	}
}

// discover reads an issuer's discovery document.
func (i *Issuer) discover(ctx context.Context, issuer string) (*verifier, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	var document struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, fmt.Errorf("oidc: error getting JWKS URL: %w", err)
	}
	if document.JWKS == "" {
		return nil, errors.New("provider did not return JWKS URL")
	}
	client := *i.client
	client.Transport = i.metrics.observeKeys(client.Transport, document.JWKS, issuer)
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(ctx, &client), document.JWKS)
	return &verifier{ids: oidc.NewVerifier(issuer, keys, &i.verify), audiences: i.cfg.Issuer.Audiences}, nil
}

// Ready is closed when the issuer was reached.
func (i *Issuer) Ready() <-chan struct{} { return i.ready }

// Health says why the issuer's tokens are not believed; nil if they are.
func (i *Issuer) Health() error {
	if err := *i.health.Load(); err != nil {
		return fmt.Errorf("oidc: authenticator for issuer %q is not healthy: %w", i.cfg.Issuer.URL, err)
	}
	return nil
}

func (i *Issuer) setHealth(err error) { i.health.Store(&err) }

// AuthenticateToken implements authenticator.Token.
func (i *Issuer) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if issuer, err := unverifiedIssuer(token); err != nil || issuer != i.cfg.Issuer.URL {
		return nil, false, nil
	}
	began := time.Now()
	u, err := i.userOf(ctx, token)
	i.metrics.authenticated(i.cfg.Issuer.URL, err, time.Since(began))
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: u}, true, nil
}

func (i *Issuer) userOf(ctx context.Context, token string) (user.Info, error) {
	v := i.verifier.Load()
	if v == nil {
		return nil, errors.New("oidc: authenticator not initialized")
	}
	id, err := v.verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("oidc: verify token: %w", err)
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return nil, fmt.Errorf("oidc: parse claims: %w", err)
	}
	if i.sources != nil {
		if err := i.sources.fetch(ctx, c, i.cfg.ClaimMappings.Groups.Claim); err != nil {
			return nil, fmt.Errorf("oidc: could not expand distributed claims: %w", err)
		}
	}
	m := mapping{cfg: &i.cfg, cel: &i.mapper, claims: c, value: c.value()}
	return m.user(ctx)
}
