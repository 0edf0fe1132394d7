package cluster

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/remote"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/pki"
)

// A node that joins has a token and nothing else. It fetches the authority that the token pins, asks with the token for a client
// certificate, and as that client for a serving certificate. Both renew themselves by asking again. What it got is kept in files, so
// that a restart needs no token.

const nodeUserPrefix = "system:node:"

var csrs = client.Kind[*certificatesv1.CertificateSigningRequest]{GVR: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests")}

// nodeCredentials are a joined node's authority and certificates.
type nodeCredentials struct {
	dir             string
	server          string
	node            string
	ip              netip.Addr
	roots           *x509.CertPool
	client, serving *requestedCert
	metrics         *certificateMetrics
	log             *slog.Logger
}

// openCredentials reads what an earlier start obtained, or joins with the token.
func openCredentials(ctx context.Context, o *AgentOptions, ip netip.Addr) (*nodeCredentials, error) {
	n := &nodeCredentials{dir: o.Layout.PKIDir(), server: o.Server, node: o.NodeName, ip: ip, log: o.Logger.With("component", "certificates")}
	n.client = &requestedCert{path: filepath.Join(n.dir, "kubelet-client.pem")}
	n.serving = &requestedCert{path: filepath.Join(n.dir, "kubelet-serving.pem")}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return nil, err
	}
	if err := n.openAuthority(ctx, o.Token); err != nil {
		return nil, err
	}
	if err := n.client.load(); err == nil {
		return n, nil
	}
	token, err := pki.ParseJoinToken(o.Token)
	if err != nil {
		return nil, fmt.Errorf("this node has no certificate yet and needs a token to join (--token, from \"clipper token create\"): %w", err)
	}
	c, err := remote.New(remote.Config{Servers: []string{n.server}, RootCAs: n.roots, Token: token.Token.String, Logger: n.log})
	if err != nil {
		return nil, err
	}
	defer c.Wait()
	if err := n.obtain(ctx, c, n.client, certificatesv1.KubeAPIServerClientKubeletSignerName); err != nil {
		return nil, fmt.Errorf("join %s: %w", n.server, err)
	}
	return n, nil
}

func (n *nodeCredentials) openAuthority(ctx context.Context, token string) error {
	path := filepath.Join(n.dir, "ca.crt")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		join, parseErr := pki.ParseJoinToken(token)
		if parseErr != nil {
			return fmt.Errorf("this node has not joined yet and needs a token (--token, from \"clipper token create\"): %w", parseErr)
		}
		if data, err = pki.FetchCA(ctx, strings.TrimPrefix(n.server, "https://"), join.Pin); err != nil {
			return fmt.Errorf("fetch the cluster's authority from %s: %w", n.server, err)
		}
		err = pki.WriteFile(path, data, 0o644)
	}
	if err != nil {
		return err
	}
	n.roots = x509.NewCertPool()
	if !n.roots.AppendCertsFromPEM(data) {
		return fmt.Errorf("%s holds no certificate", path)
	}
	return nil
}

// connect returns a client that acts as the node. What is counted from now on is registered.
func (n *nodeCredentials) connect(metrics prometheus.Registerer, log *slog.Logger) (*remote.Client, error) {
	n.metrics = newCertificateMetrics(metrics, n.client, n.serving)
	return remote.New(remote.Config{
		Servers: []string{n.server}, RootCAs: n.roots, Certificate: n.client.current, UserAgent: "kubelet/" + Version,
		Metrics: remote.NewMetrics(metrics), Logger: log,
	})
}

// run obtains the serving certificate and renews both, until ctx ends.
func (n *nodeCredentials) run(ctx context.Context, c client.Client) error {
	for {
		wait := time.Hour
		for cert, signer := range map[*requestedCert]string{
			n.client: certificatesv1.KubeAPIServerClientKubeletSignerName, n.serving: certificatesv1.KubeletServingSignerName,
		} {
			if due := cert.renewAt(); time.Now().Before(due) {
				wait = min(wait, time.Until(due))
				continue
			}
			former := cert.since()
			err := n.obtain(ctx, c, cert, signer)
			if ctx.Err() == nil {
				n.metrics.renewed(signer, former, err)
			}
			if err != nil && ctx.Err() == nil {
				n.log.Warn("obtaining a certificate failed; it is tried again", "signer", signer, "error", err)
				wait = min(wait, 10*time.Second)
			}
		}
		if controller.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// obtain asks for a certificate, waits for it and keeps it.
func (n *nodeCredentials) obtain(ctx context.Context, c client.Client, cert *requestedCert, signer string) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{user.NodesGroup}, CommonName: nodeUserPrefix + n.node}}
	usage := certificatesv1.UsageClientAuth
	if signer == certificatesv1.KubeletServingSignerName {
		usage = certificatesv1.UsageServerAuth
		request.DNSNames, request.IPAddresses = []string{n.node}, []net.IP{n.ip.AsSlice()}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		return err
	}
	created, err := csrs.Create(ctx, c, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signer,
			Usages:     []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
		},
	})
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	issued, err := awaitCertificate(ctx, c, created.Name)
	if err != nil {
		return err
	}
	return cert.keep(issued, key)
}

// awaitCertificate waits until a request has been answered.
func awaitCertificate(ctx context.Context, c client.Client, name string) (certificate []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	view, err := csrs.View(ctx, c, client.Selection{Name: name})
	if err != nil {
		return nil, err
	}
	var refused error
	err = view.Subscribe(ctx, func(_, r *certificatesv1.CertificateSigningRequest) {
		if r == nil {
			return
		}
		for _, condition := range r.Status.Conditions {
			if condition.Type != certificatesv1.CertificateApproved && condition.Status == corev1.ConditionTrue {
				refused = fmt.Errorf("the request for a certificate was refused: %s: %s", condition.Reason, condition.Message)
				cancel()
			}
		}
		if len(r.Status.Certificate) > 0 {
			certificate = r.Status.Certificate
			cancel()
		}
	})
	switch {
	case refused != nil:
		return nil, refused
	case certificate != nil:
		return certificate, nil
	}
	return nil, fmt.Errorf("wait for the certificate of request %s: %w", name, errors.Join(err, ctx.Err()))
}

// requestedCert is a certificate that was asked for, with its key, kept in one file. It may be used and renewed concurrently.
type requestedCert struct {
	path string
	now  atomic.Pointer[tls.Certificate]
}

var errNoCertificate = errors.New("there is no certificate yet")

func (r *requestedCert) load() error {
	cert, err := tls.LoadX509KeyPair(r.path, r.path)
	if err != nil {
		return err
	}
	if time.Now().After(cert.Leaf.NotAfter) {
		return fmt.Errorf("%s has expired", r.path)
	}
	r.now.Store(&cert)
	return nil
}

func (r *requestedCert) keep(certificate []byte, key crypto.Signer) error {
	keyPEM, err := pki.KeyPEM(key)
	if err != nil {
		return err
	}
	if err := pki.WriteFile(r.path, append(certificate[:len(certificate):len(certificate)], keyPEM...), 0o600); err != nil {
		return err
	}
	return r.load()
}

func (r *requestedCert) current() (*tls.Certificate, error) {
	if cert := r.now.Load(); cert != nil {
		return cert, nil
	}
	return nil, errNoCertificate
}

// GetCertificate serves tls.Config.
func (r *requestedCert) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return r.current()
}

// renewAt is when two thirds of the certificate's life are over; now if there is none.
func (r *requestedCert) renewAt() time.Time {
	cert := r.now.Load()
	if cert == nil && r.load() == nil {
		cert = r.now.Load()
	}
	if cert == nil {
		return time.Time{}
	}
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotAfter.Add(-life / 3)
}
