package remote

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// transport holds the HTTP transport of the certificate that is presented now. When the certificate changes, new requests use
// a new transport; what still runs on the former one ends there.
type transport struct {
	cfg Config

	mu   sync.Mutex
	cert *tls.Certificate
	rt   *http.Transport
}

func (t *transport) get() (*http.Transport, error) {
	var cert *tls.Certificate
	if t.cfg.Certificate != nil {
		var err error
		if cert, err = t.cfg.Certificate(); err != nil {
			return nil, fmt.Errorf("load the client certificate: %w", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rt != nil && t.cert == cert {
		return t.rt, nil
	}
	if t.rt != nil {
		t.rt.CloseIdleConnections()
	}
	t.cert, t.rt = cert, newTransport(t.cfg, cert)
	t.cfg.Metrics.transport()
	return t.rt, nil
}

func (t *transport) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rt != nil {
		t.rt.CloseIdleConnections()
	}
}

func newTransport(cfg Config, cert *tls.Certificate) *http.Transport {
	tlsConfig := &tls.Config{RootCAs: cfg.RootCAs, ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12}
	if cert != nil {
		tlsConfig.Certificates = []tls.Certificate{*cert}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		Protocols:           protocols,
		// A connection whose other end vanished is found out by pings, so that watches don't hang on it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// FileCertificate returns a function for Config.Certificate that reads a certificate and its key from PEM files (which may be the
// same file) and reads them again when they have changed. While a changed pair can't be read, the former one stays in use.
func FileCertificate(certFile, keyFile string) func() (*tls.Certificate, error) {
	var (
		mu     sync.Mutex
		cert   *tls.Certificate
		stamp  [2]time.Time
		looked time.Time
	)
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if cert != nil && time.Since(looked) < time.Second {
			return cert, nil
		}
		looked = time.Now()
		now, err := modTimes(certFile, keyFile)
		if err == nil && cert != nil && now == stamp {
			return cert, nil
		}
		if err == nil {
			var fresh tls.Certificate
			if fresh, err = tls.LoadX509KeyPair(certFile, keyFile); err == nil {
				cert, stamp = &fresh, now
			}
		}
		if cert == nil {
			return nil, err
		}
		return cert, nil
	}
}

func modTimes(a, b string) (out [2]time.Time, err error) {
	for i, name := range []string{a, b} {
		info, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		out[i] = info.ModTime()
	}
	return out, nil
}
