package pki

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func openAt(t *testing.T, dir string, now time.Time) *Keys {
	t.Helper()
	k, err := open(dir, Options{ClusterName: "test", IPs: []net.IP{net.IPv4(10, 96, 0, 1)}}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestFilesArePrivateAndNamedAsKubeadmNamesThem(t *testing.T) {
	dir := t.TempDir()
	openAt(t, dir, time.Now())
	for _, name := range []string{"ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "apiserver-kubelet-client.crt", "front-proxy-ca.crt",
		"front-proxy-client.key", "etcd/ca.crt", "etcd/server.crt", "etcd/peer.key", "apiserver-etcd-client.crt", "sa.key", "sa.pub"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode().Perm())
		}
	}
}

func TestReopeningKeepsWhatStillDoes(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	first := openAt(t, dir, now)
	second := openAt(t, dir, now.Add(24*time.Hour))
	if !first.Pair(APIServer).Current().Leaf.Equal(second.Pair(APIServer).Current().Leaf) {
		t.Error("the serving certificate was made anew")
	}
	if !samePublic(first.TokenKey().Public(), second.TokenKey().Public()) {
		t.Error("the token key was made anew")
	}
	third, err := Open(dir, Options{Names: []string{"other.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Pair(APIServer).Current().Leaf.VerifyHostname("other.example"); err != nil {
		t.Error(err)
	}
}

func TestCertificatesAndAuthoritiesAreRenewedInTimeUnderTheSamePin(t *testing.T) {
	now := time.Now()
	k := openAt(t, t.TempDir(), now)
	before := k.Pair(APIServer).Current().Leaf
	pin := Pin(k.Authority().Cert)
	for _, c := range []struct {
		name      string
		after     time.Duration
		leaf, top bool
	}{
		{"nothing after half a year", certificateLife / 2, false, false},
		{"certificates after two thirds of a year", certificateLife*2/3 + time.Hour, true, false},
		{"authorities after two thirds of ten years", authorityLife*2/3 + time.Hour, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k.now = func() time.Time { return now.Add(c.after) }
			top := k.Authority().Cert
			if err := k.RenewDue(); err != nil {
				t.Fatal(err)
			}
			if got := !k.Pair(APIServer).Current().Leaf.Equal(before); got != c.leaf {
				t.Errorf("certificate renewed: %v", got)
			}
			if got := !k.Authority().Cert.Equal(top); got != c.top {
				t.Errorf("authority renewed: %v", got)
			}
			if Pin(k.Authority().Cert) != pin {
				t.Error("the pin changed")
			}
		})
	}
}

func TestFetchCATrustsThePinAlone(t *testing.T) {
	k := openAt(t, t.TempDir(), time.Now())
	ln, err := tls.Listen("tcp", "127.0.0.1:0", k.ServerTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	token, err := NewBootstrapToken()
	if err != nil {
		t.Fatal(err)
	}
	join, err := ParseJoinToken(k.JoinToken(token).String())
	if err != nil || join.Token != token {
		t.Fatalf("got %v, %v", join, err)
	}
	ca, err := FetchCA(t.Context(), ln.Addr().String(), join.Pin)
	if err != nil || string(ca) != string(k.Authority().PEM()) {
		t.Errorf("got %q, %v", ca, err)
	}
	_, err = FetchCA(t.Context(), ln.Addr().String(), strings.Repeat("0", 64))
	if err == nil || !strings.Contains(err.Error(), "does not match the token's pin") {
		t.Errorf("got %v", err)
	}
}

func TestMalformedTokensAreRefused(t *testing.T) {
	for _, s := range []string{"", "K10::abcdef.0123456789abcdef", "abcdef.0123456789abcdef", "K10" + strings.Repeat("0", 64) + "::abcdef.short", "K10" + strings.Repeat("g", 64) + "::abcdef.0123456789abcdef"} {
		if _, err := ParseJoinToken(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestKubeconfigIsWhatClientGoReads(t *testing.T) {
	k := openAt(t, t.TempDir(), time.Now())
	c, err := k.AdminKubeconfig("https://127.0.0.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil || cfg.Host != "https://127.0.0.1:6443" || len(cfg.CertData) == 0 || len(cfg.CAData) == 0 {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestNodeCertificatesAreSignedForTheirNode(t *testing.T) {
	k := openAt(t, t.TempDir(), time.Now())
	clientCert, serving, err := k.IssueNode("n1", []string{"n1"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if got := clientCert.Current().Leaf.Subject; got.CommonName != "system:node:n1" || got.Organization[0] != "system:nodes" {
		t.Errorf("got %v", got)
	}
	if err := serving.Current().Leaf.VerifyHostname("n1"); err != nil {
		t.Error(err)
	}
}
