package server

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

func TestClientsAreJudgedByTheAuthorityOfTheMoment(t *testing.T) {
	_, ca, caKey := certificate(t, "ca", nil, nil)
	_, other, otherKey := certificate(t, "other", nil, nil)
	serverCert, _, _ := certificate(t, "kubelet", ca, caKey)
	pool := func(c *x509.Certificate) *x509.CertPool {
		p := x509.NewCertPool()
		p.AddCert(c)
		return p
	}
	var authority atomic.Pointer[x509.CertPool]
	authority.Store(pool(ca))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Client", r.TLS.VerifiedChains[0][0].Subject.CommonName)
	}))
	s.TLS = withAuthority(&tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.VerifyClientCertIfGiven}, authority.Load)
	s.StartTLS()
	defer s.Close()
	alice, _, _ := certificate(t, "alice", ca, caKey)
	bob, _, _ := certificate(t, "bob", other, otherKey)
	sessions := tls.NewLRUClientSessionCache(2)
	ask := func(client tls.Certificate) (name string, protocol int) {
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool(ca), Certificates: []tls.Certificate{client}, ClientSessionCache: sessions}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(s.URL)
		if err != nil {
			return "", 0
		}
		defer resp.Body.Close()
		return resp.Header.Get("X-Client"), resp.ProtoMajor
	}
	for _, step := range []struct {
		authority  *x509.Certificate
		alice, bob string
	}{{ca, "alice", ""}, {other, "", "bob"}, {ca, "alice", ""}} {
		authority.Store(pool(step.authority))
		if got, protocol := ask(alice); got != step.alice || got != "" && protocol != 2 {
			t.Errorf("under %s alice is %q over HTTP/%d, want %q", step.authority.Subject.CommonName, got, protocol, step.alice)
		}
		if got, _ := ask(bob); got != step.bob {
			t.Errorf("under %s bob is %q, want %q", step.authority.Subject.CommonName, got, step.bob)
		}
	}
}
