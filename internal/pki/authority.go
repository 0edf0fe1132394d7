package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// clockSkew is how far back a certificate's life begins, for machines whose clocks are behind.
	clockSkew = 5 * time.Minute
)

// An Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer

	once sync.Once
	pool *x509.CertPool
}

// NewAuthority makes a self-signed authority.
func NewAuthority(commonName string, now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return selfSigned(commonName, key, now)
}

func selfSigned(commonName string, key crypto.Signer, now time.Time) (*Authority, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		DNSNames:              []string{commonName},
		NotBefore:             now.Add(-clockSkew).UTC(),
		NotAfter:              now.Add(authorityLife).UTC(),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign authority %s: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back authority %s: %w", commonName, err)
	}
	return &Authority{Cert: cert, Key: key}, nil
}

// renewed returns an authority with the same name and key and a new life.
func (a *Authority) renewed(now time.Time) (*Authority, error) {
	return selfSigned(a.Cert.Subject.CommonName, a.Key, now)
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return certPEM(a.Cert.Raw) }

// Pool returns a pool that trusts the authority alone: always the same one, which nobody may change.
func (a *Authority) Pool() *x509.CertPool {
	a.once.Do(func() {
		a.pool = x509.NewCertPool()
		a.pool.AddCert(a.Cert)
	})
	return a.pool
}

// A Subject is what a certificate says about its holder.
type Subject struct {
	CommonName    string
	Organizations []string
	Names         []string // DNS names
	IPs           []net.IP
	Usages        []x509.ExtKeyUsage
}

// Issue makes a key and signs a certificate for it.
func (a *Authority) Issue(s Subject, now time.Time) (*tls.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: s.CommonName, Organization: s.Organizations},
		DNSNames:    s.Names,
		IPAddresses: s.IPs,
		NotBefore:   now.Add(-clockSkew).UTC(),
		NotAfter:    now.Add(certificateLife).UTC(),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: s.Usages,
	}
	der, err := a.Sign(tmpl, key.Public())
	if err != nil {
		return nil, err
	}
	return pair(der, key)
}

// Sign completes a template (serial number, issuer, and an end no later than the authority's own) and signs it.
func (a *Authority) Sign(tmpl *x509.Certificate, public crypto.PublicKey) (der []byte, err error) {
	if tmpl.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	tmpl.BasicConstraintsValid = true
	if tmpl.NotAfter.After(a.Cert.NotAfter) {
		tmpl.NotAfter = a.Cert.NotAfter
	}
	der, err = x509.CreateCertificate(rand.Reader, tmpl, a.Cert, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", tmpl.Subject.CommonName, err)
	}
	return der, nil
}

// Pin returns the fingerprint of a certificate's public key, as kubeadm writes it without its "sha256:".
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// NewKey makes a private key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a private key: %w", err)
	}
	return key, nil
}

func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 127)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func pair(der []byte, key crypto.Signer) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// KeyPEM encodes a private key.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode a private key: %w", err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// ParseKey decodes a private key in PEM: EC, RSA (PKCS #1) or PKCS #8.
func ParseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", block.Type, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return nil, errors.New("no private key in PEM found")
}

// ParseCerts decodes the certificates of a PEM file.
func ParseCerts(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("decode a certificate: %w", err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM found")
	}
	return out, nil
}
