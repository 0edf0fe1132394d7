package kubelet

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/pki"
)

func TestCertificatesInFilesAreFollowed(t *testing.T) {
	authorities := map[string]*pki.Authority{}
	for _, name := range []string{"cluster", "first", "second"} {
		a, err := pki.NewAuthority(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		authorities[name] = a
	}
	issue := func(authority, name string) *tls.Certificate {
		c, err := authorities[authority].Issue(pki.Subject{CommonName: name, Names: []string{name}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dir := t.TempDir()
	write := func(file string, content []byte) {
		if err := durable.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(authority, name string) {
		pair := issue("cluster", name)
		key, err := pki.KeyPEM(pair.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		write("tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
		write("tls.key", key)
		write("ca.crt", authorities[authority].PEM())
	}
	replace("first", "one")
	c := Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{*issue("cluster", "cluster")}, ClientCAs: authorities["cluster"].Pool()}, Logger: slog.New(slog.DiscardHandler),
		Settings: &kubeletconfig.KubeletConfiguration{TLSCertFile: filepath.Join(dir, "tls.crt"), TLSPrivateKeyFile: filepath.Join(dir, "tls.key"), Authentication: kubeletconfig.KubeletAuthentication{
			X509: kubeletconfig.KubeletX509Authentication{ClientCAFile: filepath.Join(dir, "ca.crt")},
		}},
	}
	if err := c.serverTLS(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for _, f := range c.followed {
		group.Go(func() {
			if err := f.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	good := func(authority string) bool {
		_, err := issue(authority, "client").Leaf.Verify(x509.VerifyOptions{Roots: c.clientCAs(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err == nil
	}
	serves := func(name string) bool {
		pair, err := c.TLS.GetCertificate(nil)
		return err == nil && pair.Leaf.Subject.CommonName == name
	}
	if !serves("one") || !good("cluster") || !good("first") || good("second") {
		t.Error("the files' first contents are not in force")
	}
	replace("second", "two")
	for deadline := time.Now().Add(15 * time.Second); !serves("two") || good("first"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the files' new contents are not in force")
		}
	}
	if !good("cluster") || !good("second") {
		t.Error("clients of the cluster's or the new authority are refused")
	}
}
