package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/pki"
)

// world is an authenticator with a clock, over a small cluster.
type world struct {
	*Authenticator
	client *clienttest.Client
	keys   *pki.Keys
	now    time.Time
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	keys, err := pki.Open(t.TempDir(), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(ns, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: ns, Name: name, UID: "uid-of-" + "x"}
	}
	token := pki.BootstrapToken{ID: "abcdef", Secret: "0123456789abcdef"}
	w := &world{keys: keys, now: time.Now(), client: clienttest.New(
		&corev1.ServiceAccount{ObjectMeta: meta("ns", "sa")},
		&corev1.Pod{ObjectMeta: meta("ns", "pod")},
		&corev1.Node{ObjectMeta: meta("", "node")},
		token.SecretObject(pki.BootstrapTokenOptions{Expires: time.Now().Add(time.Hour), Groups: []string{"system:bootstrappers:workers"}}),
	)}
	cfg := Config{
		ClientCA:        func() *x509.CertPool { return nil },
		TokenKey:        keys.TokenKey(),
		TokenVerifyKeys: keys.TokenVerifyKeys(),
		JWKSAddress:     "10.0.0.1:6443",
		Now:             func() time.Time { return w.now },
	}
	pool, front := keys.Authority().Pool(), keys.FrontProxyAuthority().Pool()
	cfg.ClientCA = func() *x509.CertPool { return pool }
	cfg.Proxy = DefaultProxy(func() *x509.CertPool { return front })
	if change != nil {
		change(&cfg)
	}
	if w.Authenticator, err = New(t.Context(), w.client, cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func request(cert *tls.Certificate, headers ...string) *http.Request {
	req := httptest.NewRequest("GET", "/api", nil)
	req.TLS = &tls.ConnectionState{}
	if cert != nil {
		req.TLS.PeerCertificates = []*x509.Certificate{cert.Leaf}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

func TestWhoARequestIsFrom(t *testing.T) {
	w := newWorld(t, nil)
	now := time.Now()
	alice, err := w.keys.Authority().Issue(pki.Subject{CommonName: "alice", Organizations: []string{"devs"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := w.keys.Authority().Issue(pki.Subject{CommonName: "eve", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, now)
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := w.keys.Authority().Issue(pki.Subject{Organizations: []string{"devs"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, now)
	if err != nil {
		t.Fatal(err)
	}
	front := w.keys.Pair(pki.FrontProxyClient).Current()
	bad := base64.RawURLEncoding.EncodeToString([]byte("nonsense"))
	for _, c := range []struct {
		name   string
		req    *http.Request
		user   string // "" is refused
		groups []string
		err    string
	}{
		{"nobody is anonymous", request(nil), "system:anonymous", []string{"system:unauthenticated"}, ""},
		{"a client certificate names user and groups", request(alice), "alice", []string{"devs", "system:authenticated"}, ""},
		{"a server's certificate is no client's", request(server), "", nil, "verifying certificate SN="},
		{"a certificate without a name is refused, not anonymous", request(nameless), "", nil, "names nobody"},
		{"a proxy speaks for its client", request(front, "X-Remote-User", "bob", "X-Remote-Group", "g"), "bob", []string{"g", "system:authenticated"}, ""},
		{"a client may not use a proxy's headers", request(alice, "X-Remote-User", "bob"), "alice", []string{"devs", "system:authenticated"}, ""},
		{"a bootstrap token is good", request(nil, "Authorization", "Bearer abcdef.0123456789abcdef"), "system:bootstrap:abcdef",
			[]string{"system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"}, ""},
		{"a wrong bootstrap token is not", request(nil, "Authorization", "Bearer abcdef.0123456789abcdee"), "", nil, "invalid bearer token"},
		{"an unknown token is refused, not anonymous", request(nil, "Authorization", "Bearer x"), "", nil, "invalid bearer token"},
		{"another scheme is anonymous", request(nil, "Authorization", "Basic eA=="), "system:anonymous", []string{"system:unauthenticated"}, ""},
		{"a WebSocket's bad token is refused", request(nil, "Upgrade", "websocket", "Sec-Websocket-Protocol", "v5.channel.k8s.io, "+bearerProtocol+bad), "", nil, "invalid bearer token"},
		{"a WebSocket's token needs a further protocol", request(nil, "Upgrade", "websocket", "Sec-Websocket-Protocol", bearerProtocol+bad), "", nil, "missing additional subprotocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // the second answer comes from memory
				resp, ok, err := w.AuthenticateRequest(c.req.Clone(t.Context()))
				if c.user == "" {
					if ok || err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("got %v, %v, %v", resp, ok, err)
					}
					continue
				}
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				if u := resp.User; u.GetName() != c.user || !slices.Equal(u.GetGroups(), c.groups) {
					t.Errorf("got %s %v", u.GetName(), u.GetGroups())
				}
			}
		})
	}
}

func TestAnExpiredCertificateIsNotRemembered(t *testing.T) {
	w := newWorld(t, nil)
	cert := w.keys.Pair(pki.Admin).Current()
	if _, ok, err := w.AuthenticateRequest(request(cert)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	w.now = cert.Leaf.NotAfter.Add(time.Second)
	if _, ok, err := w.AuthenticateRequest(request(cert)); ok || err == nil {
		t.Fatal("an expired certificate was accepted")
	}
}

func TestAnonymousCanBeLimitedToPaths(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Anonymous.Paths = []string{"/livez"} })
	if _, ok, _ := w.AuthenticateRequest(request(nil)); ok {
		t.Error("/api was anonymous")
	}
	if _, ok, _ := w.AuthenticateRequest(httptest.NewRequest("GET", "/livez", nil)); !ok {
		t.Error("/livez was not anonymous")
	}
}

func TestServiceAccountTokensDieWithWhatTheyAreBoundTo(t *testing.T) {
	req := func(kind, name string) api.TokenRequest {
		return api.TokenRequest{Namespace: "ns", ServiceAccount: "sa", ServiceAccountUID: "uid-of-x", Expiry: time.Hour, BoundKind: kind, BoundName: name, BoundUID: "uid-of-x", NodeName: "node", NodeUID: "n"}
	}
	remove := func(t *testing.T, w *world, k client.Kind[*corev1.Pod]) {
		if err := k.Delete(t.Context(), w.client, "ns", "pod", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		req  api.TokenRequest
		then func(t *testing.T, w *world)
		auds []string
		err  string
	}{
		{name: "it is good", req: req("", "")},
		{name: "it is good while its pod is there", req: req("Pod", "pod")},
		{name: "its pod is gone", req: req("Pod", "pod"), then: func(t *testing.T, w *world) { remove(t, w, client.Pods) }, err: "service account token has been invalidated"},
		{name: "its pod is another of that name", req: func() api.TokenRequest { r := req("Pod", "pod"); r.BoundUID = "old"; return r }(),
			err: "pod UID (uid-of-x) does not match service account pod ref claim (old)"},
		{name: "its node is gone", req: req("Node", "other"), err: "service account token has been invalidated"},
		{name: "its secret is gone", req: req("Secret", "gone"), err: "service account token has been invalidated"},
		{name: "its account is gone", req: req("", ""), then: func(t *testing.T, w *world) {
			if err := client.ServiceAccounts.Delete(t.Context(), w.client, "ns", "sa", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, err: `serviceaccounts "sa" not found`},
		{name: "it expires", req: req("", ""), then: func(_ *testing.T, w *world) { w.now = w.now.Add(time.Hour + leeway + time.Second) }, err: "service account token has expired"},
		{name: "it is for somebody else", req: func() api.TokenRequest { r := req("", ""); r.Audiences = []string{"vault"}; return r }(),
			err: `token audiences ["vault"] is invalid for the target audiences ["https://kubernetes.default.svc.cluster.local"]`},
		{name: "it is reviewed for its audience", req: func() api.TokenRequest { r := req("", ""); r.Audiences = []string{"vault", "x"}; return r }(), auds: []string{"vault"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			token, _, err := w.IssueToken(t.Context(), c.req)
			if err != nil {
				t.Fatal(err)
			}
			if c.then != nil {
				if _, _, _, err := w.ReviewToken(t.Context(), token, c.auds); err != nil {
					t.Fatalf("before: %v", err)
				}
				c.then(t, w)
			}
			u, auds, ok, err := w.ReviewToken(t.Context(), token, c.auds)
			if c.err != "" {
				if want := "[invalid bearer token, " + c.err + "]"; ok || err == nil || err.Error() != want {
					t.Errorf("got %v %v, want %q", ok, err, want)
				}
				return
			}
			if err != nil || !ok || u.Name != "system:serviceaccount:ns:sa" || !slices.Contains(u.Groups, "system:serviceaccounts:ns") {
				t.Errorf("got %+v %v %v", u, ok, err)
			}
			if c.auds != nil && !slices.Equal(auds, c.auds) {
				t.Errorf("got audiences %v", auds)
			}
			if c.req.BoundKind == "Pod" && (u.Extra["authentication.kubernetes.io/pod-name"][0] != "pod" || u.Extra["authentication.kubernetes.io/node-name"][0] != "node") {
				t.Errorf("got extra %v", u.Extra)
			}
		})
	}
}

func TestATokenLivesNoLongerThanTokensMay(t *testing.T) {
	w := newWorld(t, nil)
	w.issuer.maxLife = 2 * time.Hour
	for name, c := range map[string]struct {
		asked, warnAfter, life time.Duration
		warning                string
	}{
		"a short one":                   {time.Hour, 0, time.Hour, ""},
		"a long one":                    {3 * time.Hour, 0, 2 * time.Hour, "requested expiration of 10800 seconds shortened to 7200 seconds"},
		"one that is extended":          {24 * time.Hour, time.Hour, 24 * time.Hour, ""},
		"one that is extended too long": {24 * time.Hour, 3 * time.Hour, 2 * time.Hour, "requested expiration of 10800 seconds shortened to 7200 seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notes{annotations: map[string]string{}}
			before := time.Now()
			_, expires, err := w.IssueToken(WithNotes(t.Context(), n), api.TokenRequest{Namespace: "ns", ServiceAccount: "sa", Expiry: c.asked, WarnAfter: c.warnAfter})
			if life := expires.Sub(before); err != nil || life < c.life-2*time.Second || life > c.life+time.Minute {
				t.Errorf("it lives %s, %v", life, err)
			}
			if strings.Join(n.warnings, ";") != c.warning {
				t.Errorf("warned of %q", n.warnings)
			}
		})
	}
}

func TestTokensOfIssuersThatKnowNoAudiencesAreForThisServer(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Agnostic = []authenticator.Token{authenticator.TokenFunc(func(_ context.Context, token string) (*authenticator.Response, bool, error) {
			return &authenticator.Response{User: &user.DefaultInfo{Name: "bob"}}, token == "bob's", nil
		})}
	})
	for _, c := range []struct {
		audiences []string
		ok        bool
	}{{nil, true}, {[]string{DefaultIssuer, "x"}, true}, {[]string{"x"}, false}} {
		u, audiences, ok, err := w.ReviewToken(t.Context(), "bob's", c.audiences)
		if ok != c.ok || (err == nil) != c.ok || ok && (u.Name != "bob" || !slices.Equal(audiences, []string{DefaultIssuer})) {
			t.Errorf("for %q: %+v %q %v %v", c.audiences, u, audiences, ok, err)
		}
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	w, other := newWorld(t, nil), newWorld(t, nil)
	req := api.TokenRequest{Namespace: "ns", ServiceAccount: "sa", ServiceAccountUID: "uid-of-x", Expiry: time.Hour}
	foreign, _, _ := other.IssueToken(t.Context(), req)
	own, _, _ := w.IssueToken(t.Context(), req)
	parts, more := strings.Split(own, "."), strings.Split(foreign, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, token := range map[string]string{
		"another cluster's":    foreign,
		"another's payload":    parts[0] + "." + more[1] + "." + parts[2],
		"without a signature":  parts[0] + "." + parts[1] + ".",
		"algorithm none":       none + "." + parts[1] + ".",
		"no base64":            "a.b.c!",
		"a truncated one":      own[:len(own)-10],
		"of an empty document": "e30.e30.",
	} {
		t.Run(name, func(t *testing.T) {
			if _, ok, err := w.AuthenticateRequest(request(nil, "Authorization", "Bearer "+token)); ok || err == nil {
				t.Errorf("accepted: %v %v", ok, err)
			}
		})
	}
}

func TestALegacyTokenLivesAsLongAsItsSecret(t *testing.T) {
	w := newWorld(t, nil)
	token, err := w.IssueLegacyToken("ns", "sa", "uid-of-x", "tok")
	if err != nil {
		t.Fatal(err)
	}
	review := func() error { _, _, _, err := w.ReviewToken(t.Context(), token, nil); return err }
	if err := review(); err == nil || err.Error() != "[invalid bearer token, Token has been invalidated]" {
		t.Fatalf("got %v", err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tok"}, Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
	if _, err := client.Secrets.Create(t.Context(), w.client, secret); err != nil {
		t.Fatal(err)
	}
	if err := review(); err != nil {
		t.Fatal(err)
	}
	noted, _ := client.Secrets.Get(t.Context(), w.client, "ns", "tok")
	if noted.Labels[lastUsedLabel] != w.now.UTC().Format(dateForm) {
		t.Errorf("labels %v", noted.Labels)
	}
}

// notes remembers what there was to say.
type notes struct {
	annotations map[string]string
	warnings    []string
}

func (n *notes) Annotate(key, value string) { n.annotations[key] = value }
func (n *notes) Warn(text string)           { n.warnings = append(n.warnings, text) }

func TestASpaceTooManyBeforeATokenIsWarnedOf(t *testing.T) {
	w, n := newWorld(t, nil), &notes{annotations: map[string]string{}}
	req := request(nil, "Authorization", "Bearer  abcdef.0123456789abcdef")
	resp, ok, err := w.AuthenticateRequest(req.WithContext(WithNotes(t.Context(), n)))
	if err != nil || !ok || resp.User.GetName() != "system:anonymous" {
		t.Errorf("got %+v, %v, %v", resp, ok, err)
	}
	if !slices.Equal(n.warnings, []string{"the provided Authorization header contains extra space before the bearer token, and is ignored"}) {
		t.Errorf("warned of %q", n.warnings)
	}
}

func TestWhatIsToldOfALegacyToken(t *testing.T) {
	for name, test := range map[string]struct {
		listed, invalid bool
		key, value      string
		warned          bool
	}{
		"one that somebody made":     {false, false, "authentication.k8s.io/legacy-token-manual-secret", "tok", false},
		"one that Kubernetes made":   {true, false, "authentication.k8s.io/legacy-token-autogenerated-secret", "tok", true},
		"one that is marked invalid": {true, true, "authentication.k8s.io/legacy-token-invalidated", "tok/ns", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			token, err := w.IssueLegacyToken("ns", "sa", "uid-of-x", "tok")
			if err != nil {
				t.Fatal(err)
			}
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tok", Labels: map[string]string{}}, Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
			if test.invalid {
				secret.Labels[invalidSinceLabel] = "2026-01-01"
			}
			if _, err := client.Secrets.Create(t.Context(), w.client, secret); err != nil {
				t.Fatal(err)
			}
			if test.listed {
				sa, _ := client.ServiceAccounts.Get(t.Context(), w.client, "ns", "sa")
				sa = sa.DeepCopy()
				sa.Secrets = []corev1.ObjectReference{{Name: "tok"}}
				if _, err := client.ServiceAccounts.Update(t.Context(), w.client, sa); err != nil {
					t.Fatal(err)
				}
			}
			n := &notes{annotations: map[string]string{}}
			_, ok, err := w.AuthenticateToken(WithNotes(t.Context(), n), token)
			if ok == test.invalid {
				t.Fatalf("accepted: %v, %v", ok, err)
			}
			if n.annotations[test.key] != test.value || n.annotations["authentication.k8s.io/legacy-token"] != "system:serviceaccount:ns:sa" || len(n.warnings) > 0 != test.warned {
				t.Errorf("told %v %q", n.annotations, n.warnings)
			}
			reviewed := &notes{annotations: map[string]string{}}
			if _, _, ok, _ := w.ReviewToken(WithNotes(t.Context(), reviewed), token, nil); ok == test.invalid || len(reviewed.annotations)+len(reviewed.warnings) > 0 {
				t.Errorf("who has it reviewed (%v) is told %v %q", ok, reviewed.annotations, reviewed.warnings)
			}
			used, _ := client.Secrets.Get(t.Context(), w.client, "ns", "tok")
			if used.Labels[lastUsedLabel] == "" {
				t.Error("the use isn't noted")
			}
		})
	}
}

func TestDiscoveryDocumentsDescribeTheSigningKey(t *testing.T) {
	w := newWorld(t, nil)
	doc, err := w.OpenIDConfiguration()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"issuer":"https://kubernetes.default.svc.cluster.local","jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if string(doc) != want {
		t.Errorf("got %s", doc)
	}
	var set struct{ Keys []jwk }
	raw, err := w.JWKS()
	if err != nil || json.Unmarshal(raw, &set) != nil || len(set.Keys) != 1 || set.Keys[0].Kid != w.keysID() || set.Keys[0].Crv != "P-256" {
		t.Errorf("got %s, %v", raw, err)
	}
}

func (w *world) keysID() string { return w.Authenticator.keys.signing.id }
