package pki

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A BootstrapToken lets a machine that has nothing else ask for a certificate.
type BootstrapToken struct {
	ID     string // 6 characters, not secret
	Secret string // 16 characters
}

const tokenAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

var bootstrapTokenForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

// NewBootstrapToken makes a random token.
func NewBootstrapToken() (BootstrapToken, error) {
	id, err := randomText(6)
	if err != nil {
		return BootstrapToken{}, err
	}
	secret, err := randomText(16)
	return BootstrapToken{ID: id, Secret: secret}, err
}

// randomText draws evenly from the alphabet: bytes that would favour its beginning are thrown away.
func randomText(n int) (string, error) {
	out := make([]byte, 0, n)
	buf := make([]byte, 64)
	limit := byte(256 / len(tokenAlphabet) * len(tokenAlphabet))
	for {
		if _, err := rand.Read(buf); err != nil {
			return "", fmt.Errorf("make a token: %w", err)
		}
		for _, b := range buf {
			if b >= limit {
				continue
			}
			if out = append(out, tokenAlphabet[int(b)%len(tokenAlphabet)]); len(out) == n {
				return string(out), nil
			}
		}
	}
}

// ParseBootstrapToken reads the form abcdef.0123456789abcdef.
func ParseBootstrapToken(s string) (BootstrapToken, error) {
	m := bootstrapTokenForm.FindStringSubmatch(s)
	if m == nil {
		return BootstrapToken{}, errors.New(`a bootstrap token has the form "abcdef.0123456789abcdef"`)
	}
	return BootstrapToken{ID: m[1], Secret: m[2]}, nil
}

func (t BootstrapToken) String() string { return t.ID + "." + t.Secret }

// JoinGroup is the group whose members may join machines.
const JoinGroup = "system:bootstrappers:clipper:default-node-token"

// BootstrapTokenOptions describe a token's use.
type BootstrapTokenOptions struct {
	Description string
	Expires     time.Time // zero is never
	Groups      []string  // beyond system:bootstrappers; each begins with "system:bootstrappers:". Nil is JoinGroup.
}

// SecretObject returns the Secret in kube-system that makes the token valid, for authentication and for signing cluster-info.
func (t BootstrapToken) SecretObject(o BootstrapTokenOptions) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + t.ID},
		Type:       corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{
			"token-id":                       []byte(t.ID),
			"token-secret":                   []byte(t.Secret),
			"usage-bootstrap-authentication": []byte("true"),
			"usage-bootstrap-signing":        []byte("true"),
		},
	}
	if o.Description != "" {
		s.Data["description"] = []byte(o.Description)
	}
	if !o.Expires.IsZero() {
		s.Data["expiration"] = []byte(o.Expires.UTC().Format(time.RFC3339))
	}
	if o.Groups == nil {
		o.Groups = []string{JoinGroup}
	}
	if len(o.Groups) > 0 {
		s.Data["auth-extra-groups"] = []byte(strings.Join(o.Groups, ","))
	}
	return s
}

// joinPrefix begins every join token and carries its version.
const joinPrefix = "K10"

// A JoinToken is all that a machine needs to join: whom to trust and how to introduce itself.
//
//	K10<pin of the authority: 64 hexadecimal digits>::<bootstrap token>
type JoinToken struct {
	Pin   string
	Token BootstrapToken
}

func (t JoinToken) String() string { return joinPrefix + t.Pin + "::" + t.Token.String() }

// JoinToken binds a bootstrap token to this cluster's authority.
func (k *Keys) JoinToken(t BootstrapToken) JoinToken {
	return JoinToken{Pin: Pin(k.Authority().Cert), Token: t}
}

// ParseJoinToken reads a join token.
func ParseJoinToken(s string) (JoinToken, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), joinPrefix)
	pin, token, separated := strings.Cut(rest, "::")
	sum, err := hex.DecodeString(pin)
	if !ok || !separated || err != nil || len(sum) != 32 {
		return JoinToken{}, errors.New(`a join token has the form "K10<64 hexadecimal digits>::abcdef.0123456789abcdef"`)
	}
	t, err := ParseBootstrapToken(token)
	return JoinToken{Pin: strings.ToLower(pin), Token: t}, err
}

// FetchCA connects to a server and returns the authority (PEM) that the pin names, having checked that the server's
// certificate is signed by it and is for this address. Nothing is sent before that.
func FetchCA(ctx context.Context, address, pin string) ([]byte, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("server address %q: %w", address, err)
	}
	var found *x509.Certificate
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true, // VerifyConnection judges by the pin
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			found, err = pinned(s.PeerCertificates, host, pin)
			return err
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("fetch the authority of %s: %w", address, err)
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("fetch the authority of %s: %w", address, err)
	}
	return certPEM(found.Raw), nil
}

// pinned finds the authority that the pin names in a server's chain and checks that the server is its.
func pinned(chain []*x509.Certificate, host, pin string) (*x509.Certificate, error) {
	for _, c := range chain {
		if !c.IsCA || subtle.ConstantTimeCompare([]byte(Pin(c)), []byte(pin)) != 1 {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		return c, err
	}
	return nil, errors.New("the server is not of the cluster that the token belongs to: its authority does not match the token's pin")
}
