package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/pki"
)

// kubelets reaches the nodes' kubelets, as the API server's client certificate.
type kubelets struct {
	*controlPlane
	more       []byte // authorities beside the cluster's, in PEM
	once       sync.Once
	transports [2]*http.Transport // the second one believes any certificate
}

// openKubelets also trusts kubelets whose certificates are from the authorities in a file, if one is given.
func openKubelets(p *controlPlane, authorities string) (*kubelets, error) {
	k := &kubelets{controlPlane: p}
	if authorities == "" {
		return k, nil
	}
	var err error
	if k.more, err = os.ReadFile(authorities); err != nil {
		return nil, fmt.Errorf("--kubelet-certificate-authority: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(k.more) {
		return nil, fmt.Errorf("--kubelet-certificate-authority: %s holds no certificate", authorities)
	}
	return k, nil
}

// Endpoint implements apiserver.Kubelets.
func (k *kubelets) Endpoint(ctx context.Context, node string, insecure bool) (string, http.RoundTripper, error) {
	address, err := k.kubeletAddress(ctx, node)
	if err != nil {
		return "", nil, err
	}
	k.once.Do(func() {
		for i := range k.transports {
			cfg := k.tls()
			cfg.InsecureSkipVerify = i == 1 //nolint:gosec // insecureSkipTLSVerifyBackend of a request for a log
			k.transports[i] = &http.Transport{
				TLSClientConfig: cfg, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
				DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			}
		}
	})
	if insecure {
		return "https://" + address, k.transports[1], nil
	}
	return "https://" + address, k.transports[0], nil
}

// Dial implements apiserver.Kubelets.
func (k *kubelets) Dial(ctx context.Context, node string) (net.Conn, error) {
	address, err := k.kubeletAddress(ctx, node)
	if err != nil {
		return nil, err
	}
	cfg := k.tls()
	cfg.NextProtos = []string{"http/1.1"} // What is dialed is to be upgraded.
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}
	return d.DialContext(ctx, "tcp", address)
}

func (k *kubelets) tls() *tls.Config {
	cfg := k.keys.ClientTLS(pki.KubeletClient)
	if k.more != nil {
		cfg.RootCAs = cfg.RootCAs.Clone()
		cfg.RootCAs.AppendCertsFromPEM(k.more)
	}
	return cfg
}

// kubeletAddress finds a kubelet by its Node, preferring addresses as upstream does.
func (k *kubelets) kubeletAddress(ctx context.Context, name string) (string, error) {
	node, err := client.Nodes.Get(ctx, k.engine.Client(engineUser), "", name)
	if err != nil {
		return "", err
	}
	port := strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port))
	for _, want := range []corev1.NodeAddressType{corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeInternalIP, corev1.NodeExternalDNS, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			if a.Type == want && net.ParseIP(a.Address) != nil {
				return net.JoinHostPort(a.Address, port), nil
			}
		}
	}
	return "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

func base64PEM(pem []byte) string { return base64.StdEncoding.EncodeToString(pem) }
