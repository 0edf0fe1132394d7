package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func freePeerURL(t *testing.T) string {
	t.Helper()
	return "http://" + freeAddress(t)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	first := storetest.Config(t, t.TempDir())
	first.Name, first.PeerURL = "one", freePeerURL(t)
	one := storetest.Open(t, first)
	tableOne := things(t, one)
	for i := range 50 {
		mustCreate(t, tableOne, storetest.Named("ns", fmt.Sprint(i), "x"))
	}

	join := func(name string) (*store.Store, store.Config) {
		cfg := storetest.Config(t, t.TempDir())
		cfg.Name, cfg.PeerURL = name, freePeerURL(t)
		j, err := one.AddMember(ctx, name, cfg.PeerURL)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Join = &j
		s := storetest.Open(t, cfg)
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is a voter", func() bool { return one.PromoteMember(ctx, st.MemberID) == nil })
		return s, cfg
	}
	two, _ := join("two")
	three, cfgThree := join("three")

	t.Run("every member serves the same state", func(t *testing.T) {
		tableTwo, tableThree := things(t, two), things(t, three)
		r := mustCreate(t, tableThree, storetest.Named("ns", "from-three", "x"))
		for _, s := range []*store.Store{one, two, three} {
			if got := mustSync(t, s); got < r {
				t.Fatalf("a linearizable read came to %d, not %d", got, r)
			}
		}
		for _, table := range []*store.Table{tableOne, tableTwo, tableThree} {
			if n := table.Snapshot().Count(""); n != 51 {
				t.Fatalf("%d objects", n)
			}
		}
	})
	t.Run("the loss of one is survived, and it returns by its own log", func(t *testing.T) {
		if err := three.Close(); err != nil {
			t.Fatal(err)
		}
		r := mustCreate(t, tableOne, storetest.Named("ns", "without-three", "x"))
		three := storetest.Open(t, cfgThree)
		if got := mustSync(t, three); got < r {
			t.Fatalf("it came back at %d, not %d", got, r)
		}
		if n := things(t, three).Snapshot().Count(""); n != 52 {
			t.Fatalf("%d objects", n)
		}
		eventually(t, "three members are listed by name", func() bool {
			st, err := one.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return len(st.Members) == 3 && st.Members[0].Name != "" && st.Members[1].Name != "" && st.Members[2].Name != ""
		})
	})
}

// peerCertificate makes a certificate that is its own authority, for servers and clients at loopback.
func peerCertificate(t *testing.T) store.PeerTLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peers"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := store.PeerTLS{
		CertFile: filepath.Join(dir, "peer.crt"), KeyFile: filepath.Join(dir, "peer.key"), CAFile: filepath.Join(dir, "peer.crt"),
	}
	for path, block := range map[string]*pem.Block{
		files.CertFile: {Type: "CERTIFICATE", Bytes: der},
		files.KeyFile:  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestMembersSpeakTLS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tls := peerCertificate(t)
	one := storetest.Config(t, t.TempDir())
	one.Name, one.PeerURL, one.PeerTLS = "one", "https://"+freeAddress(t), tls
	first := storetest.Open(t, one)
	mustCreate(t, things(t, first), storetest.Named("ns", "x", "1"))

	two := storetest.Config(t, t.TempDir())
	two.Name, two.PeerURL, two.PeerTLS = "two", "https://"+freeAddress(t), tls
	j, err := first.AddMember(ctx, "two", two.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	two.Join = &j
	second := storetest.Open(t, two)
	st, err := second.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second votes", func() bool { return first.PromoteMember(ctx, st.MemberID) == nil })
	mustSync(t, second)
	if n := things(t, second).Snapshot().Count(""); n != 1 {
		t.Fatalf("%d objects", n)
	}
}

func TestPeerAddressMayChange(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	s := storetest.Open(t, cfg)
	mustCreate(t, things(t, s), storetest.Named("ns", "x", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.PeerURL = freePeerURL(t)
	s = storetest.Open(t, cfg)
	st, err := s.Status(t.Context())
	if err != nil || len(st.Members) != 1 || st.Members[0].PeerURL != cfg.PeerURL {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestDirectoryInUseIsSaidSo(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	storetest.Open(t, cfg)
	_, err := store.Open(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("got %v", err)
	}
}

func TestForceNewClusterSurvivesTheLossOfTheMajority(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one := storetest.Config(t, t.TempDir())
	one.Name, one.PeerURL = "one", freePeerURL(t)
	first := storetest.Open(t, one)
	mustCreate(t, things(t, first), storetest.Named("ns", "x", "1"))
	two := storetest.Config(t, t.TempDir())
	two.Name, two.PeerURL = "two", freePeerURL(t)
	j, err := first.AddMember(ctx, "two", two.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	two.Join = &j
	second := storetest.Open(t, two)
	st, err := second.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second votes", func() bool { return first.PromoteMember(ctx, st.MemberID) == nil })
	for _, s := range []*store.Store{second, first} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	one.ForceNewCluster = true
	alone := storetest.Open(t, one)
	table := things(t, alone)
	mustCreate(t, table, storetest.Named("ns", "y", "1"))
	mustSync(t, alone)
	if n := table.Snapshot().Count(""); n != 2 {
		t.Fatalf("%d objects", n)
	}
}
