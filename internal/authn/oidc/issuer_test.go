package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
)

// provider is an OpenID Connect issuer.
type provider struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	claims map[string]any // what /claims says, in a signed token
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	discover := func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	}
	mux.HandleFunc("/.well-known/openid-configuration", discover)
	mux.HandleFunc("/elsewhere", discover)
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/claims", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Write([]byte(p.sign(t, p.claims)))
	})
	return p
}

func (p *provider) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": p.URL, "aud": "cluster", "exp": time.Now().Add(time.Hour).Unix(), "sub": "jane"}
	for k, v := range claims {
		all[k] = v
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (p *provider) authority() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// issuer starts an authenticator of the provider's tokens, with a change to its configuration.
func (p *provider) issuer(t *testing.T, change func(*apiserver.JWTAuthenticator)) *Issuer {
	t.Helper()
	cfg := apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: p.URL, Audiences: []string{"cluster"}, CertificateAuthority: p.authority()},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new(string)}},
	}
	if change != nil {
		change(&cfg)
	}
	i, err := New(t.Context(), cfg, Options{Algorithms: Algorithms})
	if err != nil {
		t.Fatal(err)
	}
	i.Run(t.Context())
	if err := i.Health(); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestClaimsBecomeAUser(t *testing.T) {
	p := newProvider(t)
	p.claims = map[string]any{"groups": []string{"far"}}
	prefix := "oidc:"
	mappings := func(f func(*apiserver.ClaimMappings)) func(*apiserver.JWTAuthenticator) {
		return func(c *apiserver.JWTAuthenticator) { f(&c.ClaimMappings) }
	}
	rules := func(r ...apiserver.ClaimValidationRule) func(*apiserver.JWTAuthenticator) {
		return func(c *apiserver.JWTAuthenticator) { c.ClaimValidationRules = r }
	}
	groups := mappings(func(m *apiserver.ClaimMappings) {
		m.Groups = apiserver.PrefixedClaimOrExpression{Claim: "groups", Prefix: &prefix}
	})
	for _, c := range []struct {
		name   string
		change func(*apiserver.JWTAuthenticator)
		claims map[string]any
		want   *user.DefaultInfo
		err    string
	}{
		{name: "the subject", want: &user.DefaultInfo{Name: "jane"}},
		{name: "the token's ID is noted", claims: map[string]any{"jti": "7"}, want: &user.DefaultInfo{Name: "jane", Extra: map[string][]string{user.CredentialIDKey: {"JTI=7"}}}},
		{name: "groups with a prefix", change: groups, claims: map[string]any{"groups": []string{"a", "b"}}, want: &user.DefaultInfo{Name: "jane", Groups: []string{"oidc:a", "oidc:b"}}},
		{name: "one group", change: groups, claims: map[string]any{"groups": "a"}, want: &user.DefaultInfo{Name: "jane", Groups: []string{"oidc:a"}}},
		{name: "groups from elsewhere", change: groups, claims: map[string]any{
			"_claim_names":   map[string]string{"groups": "src"},
			"_claim_sources": map[string]any{"src": map[string]string{"endpoint": p.URL + "/claims", "access_token": "access"}},
		}, want: &user.DefaultInfo{Name: "jane", Groups: []string{"oidc:far"}}},
		{name: "expressions", change: mappings(func(m *apiserver.ClaimMappings) {
			m.Username = apiserver.PrefixedClaimOrExpression{Expression: "'u:' + claims.sub"}
			m.Groups = apiserver.PrefixedClaimOrExpression{Expression: "claims.roles.split(',')"}
			m.UID = apiserver.ClaimOrExpression{Expression: "string(claims.number)"}
			m.Extra = []apiserver.ExtraMapping{{Key: "example.com/team", ValueExpression: "claims.deep.example__dot__com"}, {Key: "example.com/none", ValueExpression: "''"}}
		}), claims: map[string]any{"roles": "x,y", "number": "42", "deep": map[string]any{"example.com": []string{"t1", "t2"}}},
			want: &user.DefaultInfo{Name: "u:jane", Groups: []string{"x", "y"}, UID: "42", Extra: map[string][]string{"example.com/team": {"t1", "t2"}}}},
		{name: "a UID claim", change: mappings(func(m *apiserver.ClaimMappings) { m.UID = apiserver.ClaimOrExpression{Claim: "oid"} }), claims: map[string]any{"oid": "u-1"}, want: &user.DefaultInfo{Name: "jane", UID: "u-1"}},
		{name: "a discovery document elsewhere", change: func(c *apiserver.JWTAuthenticator) { c.Issuer.DiscoveryURL = p.URL + "/elsewhere" }, want: &user.DefaultInfo{Name: "jane"}},
		{name: "one of several audiences", change: func(c *apiserver.JWTAuthenticator) {
			c.Issuer.Audiences, c.Issuer.AudienceMatchPolicy = []string{"other", "cluster"}, apiserver.AudienceMatchPolicyMatchAny
		}, want: &user.DefaultInfo{Name: "jane"}},
		{name: "a satisfied rule", change: rules(apiserver.ClaimValidationRule{Claim: "hd", RequiredValue: "example.com"}, apiserver.ClaimValidationRule{Expression: "claims.age >= 18"}), claims: map[string]any{"hd": "example.com", "age": 20}, want: &user.DefaultInfo{Name: "jane"}},

		{name: "another audience", claims: map[string]any{"aud": "other"}, err: `oidc: verify token: oidc: expected audience "cluster" got ["other"]`},
		{name: "an old token", claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, err: "oidc: token is expired"},
		{name: "a missing claim", change: rules(apiserver.ClaimValidationRule{Claim: "hd", RequiredValue: "example.com"}), err: "oidc: required claim hd not present in ID token"},
		{name: "another value", change: rules(apiserver.ClaimValidationRule{Claim: "hd", RequiredValue: "example.com"}), claims: map[string]any{"hd": "x"}, err: "oidc: required claim hd value does not match. Got = x, want = example.com"},
		{name: "a failed rule", change: rules(apiserver.ClaimValidationRule{Expression: "claims.age >= 18", Message: "too young"}), claims: map[string]any{"age": 3}, err: "oidc: error evaluating claim validation expression: validation expression 'claims.age >= 18' failed: too young"},
		{name: "a user that the rules refuse", change: func(c *apiserver.JWTAuthenticator) {
			c.UserValidationRules = []apiserver.UserValidationRule{{Expression: "!user.username.startsWith('system:')", Message: "reserved"}}
		}, claims: map[string]any{"sub": "system:x"}, err: "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: reserved"},
		{name: "no name", change: mappings(func(m *apiserver.ClaimMappings) {
			m.Username = apiserver.PrefixedClaimOrExpression{Expression: "''"}
		}), err: "oidc: empty username via CEL expression is not allowed"},
		{name: "an unverified email", change: mappings(func(m *apiserver.ClaimMappings) { m.Username.Claim = "email" }), claims: map[string]any{"email": "a@b", "email_verified": false}, err: "oidc: email not verified"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := p.issuer(t, c.change)
			resp, ok, err := i.AuthenticateToken(t.Context(), p.sign(t, c.claims))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || ok {
					t.Errorf("got %v, %v", ok, err)
				}
				return
			}
			if err != nil || !ok {
				t.Fatalf("got %v, %v", ok, err)
			}
			if !reflect.DeepEqual(resp.User, c.want) {
				t.Errorf("got %+v", resp.User)
			}
		})
	}
}

func TestOthersTokensAreLeftToOthers(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	i := p.issuer(t, nil)
	for name, token := range map[string]string{"another issuer's": other.sign(t, nil), "no token": "x", "not JSON": "a.b.c"} {
		if _, ok, err := i.AuthenticateToken(t.Context(), token); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	forged := strings.Split(other.sign(t, map[string]any{"iss": p.URL}), ".")
	if _, ok, err := i.AuthenticateToken(t.Context(), strings.Join(forged, ".")); ok || err == nil {
		t.Errorf("a forged token: %v, %v", ok, err)
	}
}

func TestAnIssuerThatIsNotReachedBelievesNobody(t *testing.T) {
	p := newProvider(t)
	i, err := New(t.Context(), apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: p.URL, Audiences: []string{"cluster"}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new(string)}},
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := i.AuthenticateToken(t.Context(), p.sign(t, nil)); ok || err == nil || err.Error() != "oidc: authenticator not initialized" {
		t.Errorf("got %v, %v", ok, err)
	}
	if i.Health() == nil {
		t.Error("it is called healthy")
	}
}
