package authn

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// ProxyConfig names an authenticating proxy and the headers in which it tells who its client is.
type ProxyConfig struct {
	CA            func() *x509.CertPool // signs the proxy's own client certificate
	AllowedNames  []string              // common names that it may have; empty is any
	UserHeaders   []string              // "X-Remote-User"
	UIDHeaders    []string              // "X-Remote-Uid"
	GroupHeaders  []string              // "X-Remote-Group"
	ExtraPrefixes []string              // "X-Remote-Extra-"
}

// DefaultProxy returns the headers that kubeadm configures.
func DefaultProxy(ca func() *x509.CertPool) *ProxyConfig {
	return &ProxyConfig{
		CA:            ca,
		AllowedNames:  []string{"front-proxy-client"},
		UserHeaders:   []string{"X-Remote-User"},
		UIDHeaders:    []string{"X-Remote-Uid"},
		GroupHeaders:  []string{"X-Remote-Group"},
		ExtraPrefixes: []string{"X-Remote-Extra-"},
	}
}

// proxy believes the headers of an authenticating proxy. Requests without its user header aren't looked at.
type proxy struct {
	cfg       ProxyConfig
	audiences authenticator.Audiences
}

func (p *proxy) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	name := firstOf(req.Header, p.cfg.UserHeaders)
	if name == "" || req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	chain, pool := req.TLS.PeerCertificates, p.cfg.CA()
	if pool == nil {
		return nil, false, nil
	}
	if _, err := verifyClient(chain, pool, time.Now()); err != nil {
		return nil, false, err
	}
	if cn := chain[0].Subject.CommonName; len(p.cfg.AllowedNames) > 0 && !slices.Contains(p.cfg.AllowedNames, cn) {
		return nil, false, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", cn)
	}
	u := &user.DefaultInfo{
		Name:   name,
		UID:    firstOf(req.Header, p.cfg.UIDHeaders),
		Groups: allOf(req.Header, p.cfg.GroupHeaders),
		Extra:  extraOf(req.Header, p.cfg.ExtraPrefixes),
	}
	p.clear(req.Header)
	return forAudiences(req.Context(), p.audiences, u)
}

// clear removes the headers, so that nobody behind takes them for the client's own.
func (p *proxy) clear(h http.Header) {
	for _, names := range [][]string{p.cfg.UserHeaders, p.cfg.UIDHeaders, p.cfg.GroupHeaders} {
		for _, n := range names {
			h.Del(n)
		}
	}
	for key := range h {
		for _, prefix := range p.cfg.ExtraPrefixes {
			if hasPrefixFold(key, prefix) {
				delete(h, key)
			}
		}
	}
}

func firstOf(h http.Header, names []string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}

func allOf(h http.Header, names []string) []string {
	out := []string{}
	for _, n := range names {
		for _, v := range h.Values(n) {
			if v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

func extraOf(h http.Header, prefixes []string) map[string][]string {
	out := map[string][]string{}
	for key, values := range h {
		for _, prefix := range prefixes {
			if hasPrefixFold(key, prefix) {
				name := extraKey(key[len(prefix):])
				out[name] = append(out[name], values...)
			}
		}
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// extraKey turns a header's rest into a key: lower case, with %-escapes resolved where they are well formed.
func extraKey(rest string) string {
	rest = strings.ToLower(rest)
	if key, err := url.PathUnescape(rest); err == nil {
		return key
	}
	return rest
}
