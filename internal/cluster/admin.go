package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/remote"
	"clipper.dev/clipper/internal/pki"
)

// adminClient speaks to a running cluster as its administrator.
func adminClient(l Layout) (*remote.Client, string, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("there is no cluster %s on this machine (%s is missing): start one with \"clipper up\"", l.Name, l.Kubeconfig())
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", l.Kubeconfig(), err)
	}
	cert, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
	if err != nil {
		return nil, "", fmt.Errorf("read the certificate in %s: %w", l.Kubeconfig(), err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cfg.CAData)
	c, err := remote.New(remote.Config{Servers: []string{cfg.Host}, RootCAs: roots, Certificate: func() (*tls.Certificate, error) { return &cert, nil }})
	return c, cfg.Host, err
}

// ServerURL returns the address at which other machines reach the API server of this one.
func ServerURL(l Layout) (string, error) {
	data, err := os.ReadFile(l.advertiseFile())
	if err != nil {
		return "", fmt.Errorf("there is no cluster %s on this machine: %w", l.Name, err)
	}
	return strings.TrimSpace(string(data)), nil
}

// advertiseFile holds the URL at which other machines reach the server.
func (l Layout) advertiseFile() string { return l.RunDir + "/server" }

// TokenOptions describe a join token.
type TokenOptions struct {
	TTL         time.Duration // 0 is for ever
	Description string
}

// CreateToken makes a join token, which also pins the cluster's authority.
func CreateToken(ctx context.Context, l Layout, o TokenOptions) (string, error) {
	c, _, err := adminClient(l)
	if err != nil {
		return "", err
	}
	authority, err := os.ReadFile(l.PKIDir() + "/ca.crt")
	if err != nil {
		return "", err
	}
	certs, err := pki.ParseCerts(authority)
	if err != nil {
		return "", err
	}
	token, err := pki.NewBootstrapToken()
	if err != nil {
		return "", err
	}
	options := pki.BootstrapTokenOptions{Description: o.Description}
	if o.TTL > 0 {
		options.Expires = time.Now().Add(o.TTL)
	}
	if _, err := client.Secrets.Create(ctx, c, token.SecretObject(options)); err != nil {
		return "", fmt.Errorf("store the token: %w", err)
	}
	return pki.JoinToken{Pin: pki.Pin(certs[0]), Token: token}.String(), nil
}

// ListTokens prints the tokens without their secrets.
func ListTokens(ctx context.Context, l Layout, out io.Writer) error {
	c, _, err := adminClient(l)
	if err != nil {
		return err
	}
	secrets, err := client.Secrets.List(ctx, c, metav1.NamespaceSystem, nil)
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tEXPIRES\tDESCRIPTION")
	for _, s := range secrets {
		if s.Type != corev1.SecretTypeBootstrapToken {
			continue
		}
		expires := string(s.Data["expiration"])
		if expires == "" {
			expires = "never"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Data["token-id"], expires, s.Data["description"])
	}
	return w.Flush()
}

// DeleteToken deletes a token; machines that have joined stay.
func DeleteToken(ctx context.Context, l Layout, id string) error {
	c, _, err := adminClient(l)
	if err != nil {
		return err
	}
	id, _, _ = strings.Cut(id, ".")
	if err := client.Secrets.Delete(ctx, c, metav1.NamespaceSystem, "bootstrap-token-"+id, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}
