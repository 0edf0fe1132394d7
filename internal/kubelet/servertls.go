package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	cliflag "k8s.io/component-base/cli/flag"

	"clipper.dev/clipper/internal/reload"
)

// serverTLS completes how the API is served: as the cluster has it, but for what the settings name. Files are followed once the kubelet runs.
func (c *Config) serverTLS() error {
	s := c.Settings
	c.TLS = c.TLS.Clone()
	if err := c.serverCertificate(); err != nil {
		return err
	}
	if err := c.clientAuthority(); err != nil {
		return err
	}
	var err error
	if c.TLS.CipherSuites, err = cliflag.TLSCipherSuites(s.TLSCipherSuites); err != nil {
		return fmt.Errorf("kubelet configuration: tlsCipherSuites: %w", err)
	}
	if s.TLSMinVersion != "" {
		if c.TLS.MinVersion, err = cliflag.TLSVersion(s.TLSMinVersion); err != nil {
			return fmt.Errorf("kubelet configuration: tlsMinVersion: %w", err)
		}
		if c.TLS.MinVersion < tls.VersionTLS12 {
			return fmt.Errorf("kubelet configuration: tlsMinVersion %s: use VersionTLS12 or VersionTLS13", s.TLSMinVersion)
		}
	}
	for _, curve := range s.TLSCurvePreferences {
		c.TLS.CurvePreferences = append(c.TLS.CurvePreferences, tls.CurveID(curve))
	}
	return nil
}

// serverCertificate takes the certificate from the files that the settings name, if they do.
func (c *Config) serverCertificate() error {
	s := c.Settings
	if (s.TLSCertFile == "") != (s.TLSPrivateKeyFile == "") {
		return errors.New("kubelet configuration: tlsCertFile and tlsPrivateKeyFile belong together")
	}
	if s.TLSCertFile == "" {
		return nil
	}
	var current atomic.Pointer[tls.Certificate]
	load := func(context.Context, []byte) error {
		pair, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSPrivateKeyFile)
		if err == nil {
			current.Store(&pair)
		}
		return err
	}
	if err := load(context.Background(), nil); err != nil {
		return fmt.Errorf("kubelet configuration: tlsCertFile: %w", err)
	}
	c.TLS.Certificates = nil
	c.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }
	return errors.Join(c.follow(s.TLSCertFile, load), c.follow(s.TLSPrivateKeyFile, load))
}

// clientAuthority adds the authority of clients in the file that the settings name, if they do. The API server's certificates stay good.
func (c *Config) clientAuthority() error {
	file := c.Settings.Authentication.X509.ClientCAFile
	if file == "" {
		return nil
	}
	var current atomic.Pointer[x509.CertPool]
	load := func(_ context.Context, data []byte) error {
		pool := c.TLS.ClientCAs.Clone()
		if !pool.AppendCertsFromPEM(data) {
			return fmt.Errorf("no certificate is in %s", file)
		}
		current.Store(pool)
		return nil
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = load(context.Background(), data)
	}
	if err != nil {
		return fmt.Errorf("kubelet configuration: authentication.x509.clientCAFile: %w", err)
	}
	c.clientCAs = current.Load
	return c.follow(file, load)
}

// follow has what a file says applied again whenever it changes.
func (c *Config) follow(path string, apply func(context.Context, []byte) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("kubelet configuration: %w", err)
	}
	c.followed = append(c.followed, &reload.File{Path: path, Current: data, Apply: apply, Logger: c.Logger})
	return nil
}
