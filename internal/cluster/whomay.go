package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"clipper.dev/clipper/internal/authn"
	oidcauthn "clipper.dev/clipper/internal/authn/oidc"
	tokenwebhook "clipper.dev/clipper/internal/authn/webhook"
	"clipper.dev/clipper/internal/authz"
	accesswebhook "clipper.dev/clipper/internal/authz/webhook"
	"clipper.dev/clipper/internal/reload"
	"clipper.dev/clipper/internal/reviewer"
)

// WhoMayOptions say who may do what, beside what every cluster knows: client certificates, its own tokens, nodes and RBAC. The flags are upstream's.
type WhoMayOptions struct {
	flags *pflag.FlagSet

	AuthenticationConfig string
	Anonymous            bool
	Audiences            []string

	OIDC struct {
		IssuerURL, ClientID, CAFile   string
		UsernameClaim, UsernamePrefix string
		GroupsClaim, GroupsPrefix     string
		Algorithms                    []string
		RequiredClaims                map[string]string
	}
	TokenWebhook struct {
		Kubeconfig, Version string
		CacheTTL            time.Duration
	}
	Proxy   authn.ProxyConfig // CA aside
	ProxyCA string

	AuthorizationConfig string
	AuthorizationModes  []string
	AccessWebhook       struct {
		Kubeconfig, Version    string
		AllowedTTL, RefusedTTL time.Duration
	}
}

func (o *WhoMayOptions) addFlags(f *pflag.FlagSet) {
	o.flags = f
	path := func(to *string, name, usage string) { f.Var((*pathValue)(to), name, usage) }
	path(&o.AuthenticationConfig, "authentication-config", "file with an AuthenticationConfiguration; it is followed as it changes")
	f.BoolVar(&o.Anonymous, "anonymous-auth", true, "whether requests may come from nobody")
	f.StringSliceVar(&o.Audiences, "api-audiences", nil, "audiences that the API server answers to (default: its issuer)")
	f.StringVar(&o.OIDC.IssuerURL, "oidc-issuer-url", "", "the URL of an OpenID issuer")
	f.StringVar(&o.OIDC.ClientID, "oidc-client-id", "", "the audience of that issuer's tokens")
	path(&o.OIDC.CAFile, "oidc-ca-file", "the issuer's authority (default: the host's)")
	f.StringVar(&o.OIDC.UsernameClaim, "oidc-username-claim", "sub", "the claim that names the user")
	f.StringVar(&o.OIDC.UsernamePrefix, "oidc-username-prefix", "", "put before users' names; \"-\" is nothing (default: the issuer's URL and \"#\", for claims other than email)")
	f.StringVar(&o.OIDC.GroupsClaim, "oidc-groups-claim", "", "the claim that names the groups")
	f.StringVar(&o.OIDC.GroupsPrefix, "oidc-groups-prefix", "", "put before groups' names")
	f.StringSliceVar(&o.OIDC.Algorithms, "oidc-signing-algs", []string{oidc.RS256}, "algorithms that tokens may be signed with")
	f.StringToStringVar(&o.OIDC.RequiredClaims, "oidc-required-claim", nil, "key=value pairs that tokens must hold")
	path(&o.TokenWebhook.Kubeconfig, "authentication-token-webhook-config-file", "kubeconfig of a server that knows further tokens")
	f.StringVar(&o.TokenWebhook.Version, "authentication-token-webhook-version", "v1beta1", "version of the TokenReviews that it is sent")
	f.DurationVar(&o.TokenWebhook.CacheTTL, "authentication-token-webhook-cache-ttl", 2*time.Minute, "how long its answers are remembered")
	path(&o.ProxyCA, "requestheader-client-ca-file", "authority of authenticating proxies (default: the cluster's own)")
	p := authn.DefaultProxy(nil)
	f.StringSliceVar(&o.Proxy.AllowedNames, "requestheader-allowed-names", p.AllowedNames, "common names of authenticating proxies; empty is any that the authority signed")
	f.StringSliceVar(&o.Proxy.UserHeaders, "requestheader-username-headers", p.UserHeaders, "headers that name the user")
	f.StringSliceVar(&o.Proxy.UIDHeaders, "requestheader-uid-headers", p.UIDHeaders, "headers that hold the user's UID")
	f.StringSliceVar(&o.Proxy.GroupHeaders, "requestheader-group-headers", p.GroupHeaders, "headers that name groups")
	f.StringSliceVar(&o.Proxy.ExtraPrefixes, "requestheader-extra-headers-prefix", p.ExtraPrefixes, "prefixes of headers that hold more about the user")
	path(&o.AuthorizationConfig, "authorization-config", "file with an AuthorizationConfiguration; it is followed as it changes")
	f.StringSliceVar(&o.AuthorizationModes, "authorization-mode", []string{"Node", "RBAC"}, "authorizers, in the order in which they are asked: AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook")
	path(&o.AccessWebhook.Kubeconfig, "authorization-webhook-config-file", "kubeconfig of the server that authorization mode Webhook asks")
	f.StringVar(&o.AccessWebhook.Version, "authorization-webhook-version", "v1beta1", "version of the SubjectAccessReviews that it is sent")
	f.DurationVar(&o.AccessWebhook.AllowedTTL, "authorization-webhook-cache-authorized-ttl", 5*time.Minute, "how long it is remembered that it allowed something")
	f.DurationVar(&o.AccessWebhook.RefusedTTL, "authorization-webhook-cache-unauthorized-ttl", 30*time.Second, "how long it is remembered that it did not")
}

// pathValue is a file's path. It is made absolute, because the daemon runs elsewhere.
type pathValue string

func (p *pathValue) String() string { return string(*p) }
func (p *pathValue) Type() string   { return "string" }
func (p *pathValue) Set(s string) error {
	if s != "" {
		var err error
		if s, err = filepath.Abs(s); err != nil {
			return err
		}
	}
	*p = pathValue(s)
	return nil
}

// given tells whether any flag with one of these beginnings was given.
func (o *WhoMayOptions) given(prefixes ...string) bool {
	found := false
	if o.flags != nil {
		o.flags.Visit(func(f *pflag.Flag) {
			found = found || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f.Name, p) })
		})
	}
	return found
}

// authenticationConfig is what the file, or the flags, say.
func (o *WhoMayOptions) authenticationConfig() (cfg *apiserver.AuthenticationConfiguration, content []byte, err error) {
	if o.AuthenticationConfig == "" {
		cfg, err = o.oidcConfig()
		return cfg, nil, err
	}
	if o.given("oidc-") {
		return nil, nil, errors.New("authentication-config file and oidc-* flags are mutually exclusive")
	}
	if content, err = os.ReadFile(o.AuthenticationConfig); err != nil {
		return nil, nil, err
	}
	if cfg, err = authn.ParseConfiguration(content); err != nil {
		return nil, nil, err
	}
	if cfg.Anonymous != nil && o.given("anonymous-auth") {
		return nil, nil, errors.New("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")
	}
	return cfg, content, nil
}

// oidcConfig says in a configuration what the --oidc flags say.
func (o *WhoMayOptions) oidcConfig() (*apiserver.AuthenticationConfiguration, error) {
	f := &o.OIDC
	cfg := &apiserver.AuthenticationConfiguration{}
	if f.IssuerURL == "" && f.ClientID == "" && !o.given("oidc-") {
		return cfg, nil
	}
	if f.IssuerURL == "" || f.ClientID == "" {
		return nil, errors.New("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
	}
	prefix, groupsPrefix := f.UsernamePrefix, f.GroupsPrefix
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && f.UsernameClaim != "email":
		prefix = f.IssuerURL + "#"
	}
	j := apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: f.IssuerURL, Audiences: []string{f.ClientID}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: f.UsernameClaim, Prefix: &prefix}},
	}
	if f.GroupsClaim != "" {
		j.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: f.GroupsClaim, Prefix: &groupsPrefix}
	}
	for claim, value := range f.RequiredClaims {
		j.ClaimValidationRules = append(j.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: claim, RequiredValue: value})
	}
	if f.CAFile != "" {
		ca, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authority of the OIDC issuer: %w", err)
		}
		j.Issuer.CertificateAuthority = string(ca)
	}
	cfg.JWT = append(cfg.JWT, j)
	return cfg, nil
}

// authorizationConfig is what the file, or the flags, say.
func (o *WhoMayOptions) authorizationConfig() (cfg *apiserver.AuthorizationConfiguration, content []byte, err error) {
	if o.AuthorizationConfig != "" {
		if o.given("authorization-mode", "authorization-webhook-") {
			return nil, nil, errors.New("--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined")
		}
		if content, err = os.ReadFile(o.AuthorizationConfig); err != nil {
			return nil, nil, err
		}
		cfg, err = authz.ParseConfiguration(content)
		return cfg, content, err
	}
	cfg = &apiserver.AuthorizationConfiguration{}
	for _, mode := range o.AuthorizationModes {
		a := apiserver.AuthorizerConfiguration{Type: apiserver.AuthorizerType(mode), Name: strings.ToLower(mode)}
		if a.Type == apiserver.TypeWebhook {
			if o.AccessWebhook.Kubeconfig == "" {
				return nil, nil, errors.New("authorization-mode Webhook's authorization config file not passed")
			}
			a.Name, a.Webhook = "default", o.accessWebhook()
		}
		cfg.Authorizers = append(cfg.Authorizers, a)
	}
	return cfg, nil, nil
}

func (o *WhoMayOptions) accessWebhook() *apiserver.WebhookConfiguration {
	w := &o.AccessWebhook
	return &apiserver.WebhookConfiguration{
		AuthorizedTTL: metav1.Duration{Duration: w.AllowedTTL}, CacheAuthorizedRequests: w.AllowedTTL > 0,
		UnauthorizedTTL: metav1.Duration{Duration: w.RefusedTTL}, CacheUnauthorizedRequests: w.RefusedTTL > 0,
		Timeout: metav1.Duration{Duration: 30 * time.Second}, FailurePolicy: apiserver.FailurePolicyNoOpinion,
		SubjectAccessReviewVersion: w.Version, MatchConditionSubjectAccessReviewVersion: "v1",
		ConnectionInfo: apiserver.WebhookConnectionInfo{Type: apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, KubeConfigFile: &w.Kubeconfig},
	}
}

// whoMay holds what may change about who may do what while the server runs.
type whoMay struct {
	issuers *authn.Issuers
	follow  []*reload.File
	proxyCA []byte // of authenticating proxies, where it isn't the cluster's own
}

// openAuthentication makes the authenticators that the options ask for.
func (p *controlPlane) openAuthentication(ctx context.Context, cfg *authn.Config) error {
	o := &p.opts.WhoMayOptions
	log := p.log.With("component", "authn")
	described, content, err := o.authenticationConfig()
	if err != nil {
		return err
	}
	cfg.Audiences = o.Audiences
	if cfg.Proxy, err = p.authenticatingProxy(); err != nil {
		return err
	}
	cfg.Anonymous = authn.AnonymousConfig{Disabled: !o.Anonymous}
	fallback := cfg.Anonymous
	if a, said := authn.AnonymousOf(described); said {
		cfg.Anonymous = a
	}
	metrics, err := oidcauthn.NewMetrics(p.metrics, p.opts.NodeName)
	if err != nil {
		return err
	}
	options := oidcauthn.Options{DisallowedIssuers: cfg.Issuers, Metrics: metrics, Logger: log, Algorithms: oidcauthn.Algorithms}
	if o.AuthenticationConfig == "" {
		options.Algorithms = o.OIDC.Algorithms
	}
	if p.whoMay.issuers, err = authn.NewIssuers(ctx, described, options); err != nil {
		return err
	}
	cfg.Agnostic = append(cfg.Agnostic, p.whoMay.issuers)
	if o.AuthenticationConfig != "" {
		if err := p.followAuthentication(content, fallback); err != nil {
			return err
		}
	}
	if o.TokenWebhook.Kubeconfig == "" {
		return nil
	}
	hook, err := p.tokenWebhook(cfg)
	if err == nil {
		cfg.Tokens = append(cfg.Tokens, hook)
	}
	return err
}

func (p *controlPlane) tokenWebhook(cfg *authn.Config) (authenticator.Token, error) {
	w := &p.opts.WhoMayOptions.TokenWebhook
	r, err := reviewer.Open(w.Kubeconfig, 30*time.Second)
	if err != nil {
		return nil, err
	}
	own := cfg.Audiences
	if len(own) == 0 {
		own = cfg.Issuers
	}
	return tokenwebhook.New(r, tokenwebhook.Config{Version: w.Version, CacheTTL: w.CacheTTL, Audiences: own})
}

// followAuthentication puts changes of the file in force.
func (p *controlPlane) followAuthentication(content []byte, fallback authn.AnonymousConfig) error {
	metrics, err := reload.NewMetrics(p.metrics, "authentication_config_controller", p.opts.NodeName)
	if err != nil {
		return err
	}
	metrics.InForce(content)
	apply := func(ctx context.Context, content []byte) error {
		cfg, err := authn.ParseConfiguration(content)
		if err != nil {
			return err
		}
		anonymous, said := authn.AnonymousOf(cfg)
		if !said {
			anonymous = fallback
		} else if p.opts.WhoMayOptions.given("anonymous-auth") {
			return errors.New("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")
		}
		if err := p.whoMay.issuers.Replace(ctx, cfg); err != nil {
			return err
		}
		p.authn.SetAnonymous(anonymous)
		return nil
	}
	p.whoMay.follow = append(p.whoMay.follow, &reload.File{
		Path: p.opts.AuthenticationConfig, Current: content, Apply: apply, Metrics: metrics, Logger: p.log.With("component", "authn"),
	})
	return nil
}

// authenticatingProxy believes proxies with certificates of the cluster's own authority for them, or of another.
func (p *controlPlane) authenticatingProxy() (*authn.ProxyConfig, error) {
	cfg := p.opts.WhoMayOptions.Proxy
	cfg.CA = func() *x509.CertPool { return p.keys.FrontProxyAuthority().Pool() }
	file := p.opts.WhoMayOptions.ProxyCA
	if file == "" {
		return &cfg, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority of authenticating proxies: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	cfg.CA, p.whoMay.proxyCA = func() *x509.CertPool { return pool }, data
	return &cfg, nil
}

// openAuthorization makes the authorizers that the options ask for.
func (p *controlPlane) openAuthorization(builtin authz.Builtin) (err error) {
	o := &p.opts.WhoMayOptions
	if builtin.Metrics, err = accesswebhook.NewMetrics(p.metrics); err != nil {
		return err
	}
	builtin.Decisions = authz.NewDecisions(p.metrics)
	cfg, content, err := o.authorizationConfig()
	if err != nil {
		return err
	}
	union, err := builtin.Build(cfg)
	if err != nil {
		return err
	}
	p.authz = &authz.Current{}
	p.authz.Set(union)
	if content == nil {
		return nil
	}
	metrics, err := reload.NewMetrics(p.metrics, "authorization_config_controller", p.opts.NodeName)
	if err != nil {
		return err
	}
	metrics.InForce(content)
	p.whoMay.follow = append(p.whoMay.follow, &reload.File{
		Path: o.AuthorizationConfig, Current: content, Metrics: metrics, Logger: p.log.With("component", "authz"),
		Apply: func(_ context.Context, content []byte) error {
			cfg, err := authz.ParseConfiguration(content)
			if err != nil {
				return err
			}
			union, err := builtin.Build(cfg)
			if err == nil {
				p.authz.Set(union)
			}
			return err
		},
	})
	return nil
}
