package authn

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/client"
)

// Config says whom to believe.
type Config struct {
	// ClientCA verifies client certificates; nil believes none.
	ClientCA func() *x509.CertPool
	// Proxy believes an authenticating proxy's headers; nil believes none.
	Proxy *ProxyConfig
	// Issuers of service account tokens; the first signs. Empty is DefaultIssuer.
	Issuers []string
	// Audiences that this server answers to; empty is the issuers.
	Audiences []string
	// TokenKey signs service account tokens; TokenVerifyKeys verify them.
	TokenKey        crypto.Signer
	TokenVerifyKeys []crypto.PublicKey
	// MaxTokenLife bounds the life of tokens; zero does not.
	MaxTokenLife time.Duration
	// JWKSAddress is the host and port under which clients find the keys that verify tokens, unless JWKSURI is where they do.
	JWKSAddress, JWKSURI string
	// NoBootstrapTokens refuses them.
	NoBootstrapTokens bool
	// Anonymous says who may be nobody.
	Anonymous AnonymousConfig
	// Agnostic and Tokens are further authenticators of bearer tokens, tried last. Those that know no audiences (OIDC) answer for this server's own.
	Agnostic, Tokens []authenticator.Token
	// Metrics takes the authenticator's metrics; nil is a registry of its own.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Authenticator finds out who makes a request. It is authenticator.Request and, for bearer tokens, authenticator.Token.
type Authenticator struct {
	cfg       Config
	requests  []authenticator.Request // in order
	anonymous atomic.Pointer[anonymous]
	tokens    []authenticator.Token // in order
	accounts  *serviceAccountTokens // one of tokens
	keys      *keySet
	issuer    *issuer
}

var (
	_ authenticator.Request = (*Authenticator)(nil)
	_ authenticator.Token   = (*Authenticator)(nil)
)

// New returns an authenticator whose views of live objects stay open until ctx ends.
func New(ctx context.Context, c client.Client, cfg Config) (*Authenticator, error) {
	if len(cfg.Issuers) == 0 {
		cfg.Issuers = []string{DefaultIssuer}
	}
	if len(cfg.Audiences) == 0 {
		cfg.Audiences = cfg.Issuers
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	live, err := openLive(ctx, c)
	if err != nil {
		return nil, err
	}
	keys, err := newKeySet(cfg.TokenKey, cfg.TokenVerifyKeys)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{cfg: cfg, keys: keys}
	a.SetAnonymous(cfg.Anonymous)
	a.issuer = &issuer{name: cfg.Issuers[0], key: keys.signing, now: cfg.Now, maxLife: cfg.MaxTokenLife}
	metrics := newTokenMetrics(cfg.Metrics)
	a.accounts = newServiceAccountTokens(keys, live, metrics, cfg)
	a.tokens = []authenticator.Token{newLegacyTokens(keys, live, c, metrics, cfg), a.accounts}
	if !cfg.NoBootstrapTokens {
		a.tokens = append(a.tokens, &bootstrapTokens{live: live, audiences: cfg.Audiences, now: cfg.Now})
	}
	for _, t := range cfg.Agnostic {
		a.tokens = append(a.tokens, authenticator.WrapAudienceAgnosticToken(cfg.Audiences, t))
	}
	a.tokens = append(a.tokens, cfg.Tokens...)
	if cfg.Proxy != nil {
		a.requests = append(a.requests, &proxy{cfg: *cfg.Proxy, audiences: cfg.Audiences})
	}
	if cfg.ClientCA != nil {
		a.requests = append(a.requests, newCertificates(cfg.ClientCA, cfg.Now, cfg.Metrics))
	}
	a.requests = append(a.requests, authenticator.RequestFunc(a.bearer), authenticator.RequestFunc(a.webSocketBearer))
	return a, nil
}

// AuthenticateRequest returns the user of the first method that recognizes the request. If none does, an error of any of them
// is returned; without an error, the request is anonymous where that is allowed.
func (a *Authenticator) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	var errs []error
	for _, m := range a.requests {
		resp, ok, err := m.AuthenticateRequest(req)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return authenticated(resp), true, nil
		}
	}
	if len(errs) > 0 {
		return nil, false, utilerrors.NewAggregate(errs)
	}
	return a.anonymous.Load().AuthenticateRequest(req)
}

// SetAnonymous replaces who may be nobody.
func (a *Authenticator) SetAnonymous(cfg AnonymousConfig) { a.anonymous.Store(newAnonymous(cfg)) }

// AuthenticateToken returns the user of the first method that recognizes a bearer token.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if a.accounts.knows(token) { // no other method can: the issuer is another
		return a.accounts.AuthenticateToken(ctx, token)
	}
	var errs []error
	for _, m := range a.tokens {
		resp, ok, err := m.AuthenticateToken(ctx, token)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return resp, true, nil
		}
	}
	return nil, false, utilerrors.NewAggregate(errs)
}

// authenticated adds the group of all who are known, unless the method decided on that group or its opposite itself.
func authenticated(r *authenticator.Response) *authenticator.Response {
	u := r.User
	if u.GetName() == user.Anonymous || slices.Contains(u.GetGroups(), user.AllAuthenticated) || slices.Contains(u.GetGroups(), user.AllUnauthenticated) {
		return r
	}
	out := *r
	out.User = &user.DefaultInfo{
		Name:   u.GetName(),
		UID:    u.GetUID(),
		Groups: append(slices.Clone(u.GetGroups()), user.AllAuthenticated),
		Extra:  u.GetExtra(),
	}
	return &out
}

// forAudiences is the answer of a method that knows no audiences: it speaks for this server's own.
func forAudiences(ctx context.Context, own authenticator.Audiences, u user.Info) (*authenticator.Response, bool, error) {
	asked, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		return &authenticator.Response{User: u}, true, nil
	}
	common := own.Intersect(asked)
	if len(own) > 0 && len(common) == 0 {
		return nil, false, nil
	}
	return &authenticator.Response{User: u, Audiences: common}, true, nil
}

var errInvalidToken = errors.New("invalid bearer token")
