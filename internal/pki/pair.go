package pki

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

type wanted struct {
	by      *atomic.Pointer[Authority]
	subject Subject
}

// A Pair is a certificate with its key that renews itself: connections made after a renewal see the new one.
type Pair struct {
	name    string
	want    wanted
	current atomic.Pointer[tls.Certificate]
}

// Current returns the certificate, with its chain. Read-only.
func (p *Pair) Current() *tls.Certificate { return p.current.Load() }

// GetCertificate serves tls.Config.
func (p *Pair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.Current(), nil
}

// GetClientCertificate serves tls.Config.
func (p *Pair) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return p.Current(), nil
}

// PEM returns the certificate and its key.
func (p *Pair) PEM() (cert, key []byte, err error) {
	c := p.Current()
	key, err = KeyPEM(c.PrivateKey.(crypto.Signer))
	return certPEM(c.Leaf.Raw), key, err
}

// openPair loads a pair from its files, or issues it when what is there does not do.
func (k *Keys) openPair(p *Pair) error {
	cert, err := k.dir.readPair(p.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	by := p.want.by.Load()
	if err == nil && cert.PrivateKey != nil && p.want.fits(cert.Leaf, by) && !due(cert.Leaf, k.now()) {
		p.set(cert, by)
		return nil
	}
	return k.renew(p)
}

func (k *Keys) renew(p *Pair) error {
	by := p.want.by.Load()
	cert, err := by.Issue(p.want.subject, k.now())
	if err != nil {
		return err
	}
	if err := k.dir.writePair(p.name, certPEM(cert.Leaf.Raw), cert.PrivateKey.(crypto.Signer)); err != nil {
		return err
	}
	p.set(cert, by)
	return nil
}

// set publishes a certificate with its authority in the chain, where one who knows only the authority's pin looks for it.
func (p *Pair) set(cert *tls.Certificate, by *Authority) {
	p.current.Store(&tls.Certificate{
		Certificate: [][]byte{cert.Leaf.Raw, by.Cert.Raw},
		PrivateKey:  cert.PrivateKey,
		Leaf:        cert.Leaf,
	})
}

// fits tells whether a certificate says all that is wanted and was signed by the authority.
func (w wanted) fits(cert *x509.Certificate, by *Authority) bool {
	if cert.CheckSignatureFrom(by.Cert) != nil || cert.Subject.CommonName != w.subject.CommonName {
		return false
	}
	for _, o := range w.subject.Organizations {
		if !slices.Contains(cert.Subject.Organization, o) {
			return false
		}
	}
	for _, n := range w.subject.Names {
		if !slices.Contains(cert.DNSNames, n) {
			return false
		}
	}
	for _, ip := range w.subject.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, func(have net.IP) bool { return have.Equal(ip) }) {
			return false
		}
	}
	return true
}

// renewAt is when two thirds of a certificate's life are over.
func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}

func due(cert *x509.Certificate, now time.Time) bool { return !now.Before(renewAt(cert)) }

// Run renews authorities and certificates as they come due, until ctx ends. It always returns ctx's error.
func (k *Keys) Run(ctx context.Context) error {
	for {
		wait := max(k.nextRenewal().Sub(k.now()), time.Minute)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if err := k.RenewDue(); err != nil {
			k.log.Error("certificates could not be renewed; another try follows in a minute", "err", err)
		}
	}
}

func (k *Keys) nextRenewal() time.Time {
	next := renewAt(k.authority.Load().Cert)
	for _, a := range []*Authority{k.frontProxy.Load(), k.etcd.Load()} {
		next = earlier(next, renewAt(a.Cert))
	}
	for _, p := range k.pairs {
		next = earlier(next, renewAt(p.Current().Leaf))
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// RenewDue renews everything that is due now.
func (k *Keys) RenewDue() error {
	if err := k.openAuthorities(); err != nil {
		return err
	}
	for _, p := range k.pairs {
		if !due(p.Current().Leaf, k.now()) {
			continue
		}
		if err := k.renew(p); err != nil {
			return fmt.Errorf("renew %s: %w", p.name, err)
		}
		k.log.Info("renewed a certificate", "name", p.name, "until", p.Current().Leaf.NotAfter)
	}
	return nil
}

// ServerTLS returns the API server's TLS settings: it asks clients for a certificate and leaves judging it to authentication.
func (k *Keys) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: k.Pair(APIServer).GetCertificate,
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// ClientTLS returns settings for a client that trusts the cluster's authority and shows one of this server's certificates.
func (k *Keys) ClientTLS(name string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS12,
		RootCAs:              k.Authority().Pool(),
		GetClientCertificate: k.Pair(name).GetClientCertificate,
	}
}

func (k *Keys) openPublicKeys(own crypto.PublicKey) ([]crypto.PublicKey, error) {
	keys := []crypto.PublicKey{own}
	data, err := os.ReadFile(k.dir.path(tokenKeyFile + ".pub"))
	switch {
	case err == nil:
		more, err := ParsePublicKeys(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", k.dir.path(tokenKeyFile+".pub"), err)
		}
		more = slices.DeleteFunc(more, func(p crypto.PublicKey) bool { return samePublic(p, own) })
		return append(keys, more...), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(own)
	if err != nil {
		return nil, fmt.Errorf("encode the service account key: %w", err)
	}
	return keys, k.dir.write(tokenKeyFile+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

// ParsePublicKeys decodes the public keys of a PEM file; private keys and certificates count for theirs.
func ParsePublicKeys(data []byte) ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("decode a public key: %w", err)
			}
			out = append(out, key)
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("decode a certificate: %w", err)
			}
			out = append(out, cert.PublicKey)
		default:
			key, err := ParseKey(pem.EncodeToMemory(block))
			if err != nil {
				return nil, err
			}
			out = append(out, key.Public())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no public key in PEM found")
	}
	return out, nil
}
