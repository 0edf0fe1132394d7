package image

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"sigs.k8s.io/yaml"
)

// Registries says how registries are reached. The zero value reaches every registry by HTTPS, without
// credentials, with the machine's certificate authorities.
//
// It is read from a YAML or JSON file such as:
//
//	registries:
//	- host: docker.io                 # or "*" for all that are not listed
//	  mirrors:                        # tried in this order, before the registry itself
//	  - url: http://127.0.0.1:5000    # plain HTTP only where it is written
//	  - url: https://mirror.example.com/docker
//	    caFile: /etc/ssl/mirror.pem
//	  mirrorsOnly: false              # true: never ask the registry itself
//	  skipVerify: false               # true: any certificate will do
//	  plainHTTP: false                # true: the registry itself speaks plain HTTP
//	  username: someone
//	  password: secret
type Registries struct {
	Registries []Registry `json:"registries"`
}

// Registry is the configuration of one registry.
type Registry struct {
	Host        string   `json:"host"`
	Mirrors     []Mirror `json:"mirrors,omitempty"`
	MirrorsOnly bool     `json:"mirrorsOnly,omitempty"`
	SkipVerify  bool     `json:"skipVerify,omitempty"`
	PlainHTTP   bool     `json:"plainHTTP,omitempty"`
	CAFile      string   `json:"caFile,omitempty"`
	Username    string   `json:"username,omitempty"`
	Password    string   `json:"password,omitempty"`
	Token       string   `json:"token,omitempty"`
}

// Mirror is a host that has the images of a registry.
type Mirror struct {
	URL        string `json:"url"`
	SkipVerify bool   `json:"skipVerify,omitempty"`
	CAFile     string `json:"caFile,omitempty"`
	Username   string `json:"username,omitempty"`
	Password   string `json:"password,omitempty"`
}

// Auth is what a pull request brings along, from the pod's pull secrets.
type Auth struct {
	Username, Password, Auth, IdentityToken, RegistryToken string
}

// ReadRegistries reads a configuration file; an empty path gives the zero value.
func ReadRegistries(path string) (Registries, error) {
	var registries Registries
	if path == "" {
		return registries, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return registries, fmt.Errorf("read the registry configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &registries); err != nil {
		return registries, fmt.Errorf("read the registry configuration %s: %w", path, err)
	}
	for _, registry := range registries.Registries {
		if registry.Host == "" {
			return registries, fmt.Errorf("registry configuration %s: a registry has no host", path)
		}
		for _, mirror := range registry.Mirrors {
			if !strings.HasPrefix(mirror.URL, "http://") && !strings.HasPrefix(mirror.URL, "https://") {
				return registries, fmt.Errorf("registry configuration %s: mirror %q of %s is no http or https address", path, mirror.URL, registry.Host)
			}
		}
	}
	return registries, nil
}

// endpoint is a place to pull from.
type endpoint struct {
	scheme, host, prefix string
	auth                 authn.Authenticator
	transport            http.RoundTripper
}

func (r Registries) lookup(host string) Registry {
	var fallback Registry
	for _, registry := range r.Registries {
		if registry.Host == host {
			return registry
		}
		if registry.Host == "*" {
			fallback = registry
		}
	}
	return fallback
}

// endpoints lists where images of a registry may come from, in the order to try.
func (r Registries) endpoints(host string, auth *Auth) ([]endpoint, error) {
	registry := r.lookup(host)
	var list []endpoint
	for _, mirror := range registry.Mirrors {
		transport, err := newTransport(mirror.SkipVerify, mirror.CAFile)
		if err != nil {
			return nil, err
		}
		scheme, rest, _ := strings.Cut(mirror.URL, "://")
		mirrorHost, prefix, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
		list = append(list, endpoint{
			scheme: scheme, host: mirrorHost, prefix: prefix, transport: transport,
			auth: basic(mirror.Username, mirror.Password, ""),
		})
	}
	if registry.MirrorsOnly {
		return list, nil
	}
	transport, err := newTransport(registry.SkipVerify, registry.CAFile)
	if err != nil {
		return nil, err
	}
	own := endpoint{scheme: "https", host: host, transport: transport, auth: basic(registry.Username, registry.Password, registry.Token)}
	if host == "docker.io" {
		own.host = "registry-1.docker.io"
	}
	if registry.PlainHTTP {
		own.scheme = "http"
	}
	if auth != nil {
		if own.auth, err = auth.authenticator(); err != nil {
			return nil, err
		}
	}
	return append(list, own), nil
}

func basic(username, password, token string) authn.Authenticator {
	if username == "" && password == "" && token == "" {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: username, Password: password, RegistryToken: token})
}

func (a *Auth) authenticator() (authn.Authenticator, error) {
	config := authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if a.Auth != "" && config.Username == "" {
		decoded, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return nil, errors.New("credentials of the pull request are not base64")
		}
		var ok bool
		config.Username, config.Password, ok = strings.Cut(strings.TrimRight(string(decoded), "\x00"), ":")
		if !ok {
			return nil, errors.New("credentials of the pull request have no colon")
		}
	}
	if config == (authn.AuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(config), nil
}

func newTransport(skipVerify bool, caFile string) (http.RoundTripper, error) {
	tlsConfig := &tls.Config{InsecureSkipVerify: skipVerify} //nolint:gosec // only where the configuration says so
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the registry's certificate authority: %w", err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("registry's certificate authority %s holds no certificate", caFile)
		}
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       10 * time.Second,
		MaxIdleConnsPerHost:   unpackWorkers,
		ForceAttemptHTTP2:     true,
	}, nil
}
