package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/lru"
)

// uidOID is the subject attribute that carries a user's UID.
var uidOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

// certificates believes client certificates that an authority signed: CN is the user, each O a group.
// A chain is verified once and then remembered until it expires or the authority changes.
type certificates struct {
	pool     func() *x509.CertPool
	now      func() time.Time
	verified *lru.Cache // chainHash → verifiedChain
	remains  prometheus.Observer
}

type verifiedChain struct {
	chain []*x509.Certificate
	pool  *x509.CertPool
	until time.Time
	resp  *authenticator.Response
}

func newCertificates(pool func() *x509.CertPool, now func() time.Time, reg prometheus.Registerer) *certificates {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "apiserver_client_certificate_expiration_seconds", Help: "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
		Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
	})
	reg.MustRegister(h)
	return &certificates{pool: pool, now: now, verified: lru.New(4096), remains: h}
}

func (c *certificates) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	chain, pool := req.TLS.PeerCertificates, c.pool()
	if pool == nil {
		return nil, false, nil
	}
	key, now := chainHash(chain), c.now()
	c.remains.Observe(chain[0].NotAfter.Sub(now).Seconds())
	if v, ok := c.verified.Get(key); ok {
		if v := v.(verifiedChain); v.pool == pool && slices.EqualFunc(v.chain, chain, (*x509.Certificate).Equal) && now.Before(v.until) {
			return v.resp, true, nil
		}
	}
	v := verifiedChain{chain: chain, pool: pool}
	until, err := verifyClient(chain, pool, now)
	if err != nil {
		return nil, false, fmt.Errorf("verifying certificate %s failed: %w", certificateID(chain[0]), err)
	}
	v.until = until
	if chain[0].Subject.CommonName == "" {
		return nil, false, errors.New("the client certificate names nobody")
	}
	if v.resp, err = userOf(chain[0]); err != nil {
		return nil, false, err
	}
	c.verified.Add(key, v)
	return v.resp, true, nil
}

var chainSeed = maphash.MakeSeed()

// chainHash finds a chain that was verified; whether it is the same one is for its bytes to say.
func chainHash(chain []*x509.Certificate) uint64 {
	return maphash.Bytes(chainSeed, chain[0].Raw)
}

// verifyClient checks a client's chain and returns when the first of its certificates expires.
func verifyClient(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (time.Time, error) {
	opts := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	chains, err := chain[0].Verify(opts)
	if err != nil {
		return time.Time{}, err
	}
	until := chain[0].NotAfter
	for _, c := range chains[0] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return until, nil
}

func userOf(cert *x509.Certificate) (*authenticator.Response, error) {
	uid, err := uidOf(cert)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(cert.Raw)
	return &authenticator.Response{User: &user.DefaultInfo{
		Name:   cert.Subject.CommonName,
		UID:    uid,
		Groups: cert.Subject.Organization,
		Extra:  map[string][]string{user.CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}}, nil
}

func uidOf(cert *x509.Certificate) (string, error) {
	var uids []string
	for _, attr := range cert.Subject.Names {
		if !attr.Type.Equal(uidOID) {
			continue
		}
		uid, ok := attr.Value.(string)
		switch {
		case !ok:
			return "", errors.New("unable to parse UID into a string")
		case uid == "":
			return "", errors.New("UID cannot be an empty string")
		}
		uids = append(uids, uid)
	}
	switch len(uids) {
	case 0:
		return "", nil
	case 1:
		return uids[0], nil
	}
	return "", fmt.Errorf("expected 1 UID, but found multiple: %v", uids)
}

func certificateID(c *x509.Certificate) string {
	return fmt.Sprintf("SN=%d, SKID=%s, AKID=%s", c.SerialNumber, colonHex(c.SubjectKeyId), colonHex(c.AuthorityKeyId))
}

func colonHex(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[i] = fmt.Sprintf("%02X", x)
	}
	return strings.Join(parts, ":")
}
