package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterName is the measured cluster's: a run disturbs no other.
const clusterName = "bench"

// side is a cluster, or a control plane, that runs.
type side struct {
	name   string
	pids   []int // all its processes
	config *rest.Config
	start  time.Duration // until it was ready
	stop   func() error
}

// startClipper starts a cluster of one node from nothing.
func startClipper(ctx context.Context, o options) (*side, error) { return clipperUp(ctx, o) }

// startClipperServer starts a control plane alone.
func startClipperServer(ctx context.Context, o options) (*side, error) {
	return clipperUp(ctx, o, "--no-node")
}

func clipperUp(ctx context.Context, o options, args ...string) (*side, error) {
	purge := func() error {
		out, err := exec.Command(o.clipper, "down", "--purge", "--name", clusterName).CombinedOutput()
		if err != nil {
			return fmt.Errorf("clipper down: %w: %s", err, out)
		}
		return nil
	}
	if err := purge(); err != nil {
		return nil, fmt.Errorf("purge an earlier run: %w", err)
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, o.clipper, append([]string{"up", "--name", clusterName}, args...)...).CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("clipper up: %w: %s", err, out), purge())
	}
	s := &side{name: clipperSide, start: time.Since(began), stop: purge}
	s.config, err = clientcmd.BuildConfigFromFlags("", "/etc/clipper-"+clusterName+"/kubeconfig")
	if err != nil {
		return nil, errors.Join(err, purge())
	}
	// The daemon and its keeper.
	s.pids, err = processes(func(args []string) bool {
		if filepath.Base(args[0]) == "clipper-keeper" {
			return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "/run/clipper-"+clusterName+"/") })
		}
		return args[0] == "clipper" && slices.Contains(args, clusterName)
	})
	if err != nil || len(s.pids) == 0 {
		return nil, errors.Join(fmt.Errorf("clipper's processes: %d found", len(s.pids)), err, purge())
	}
	return s, nil
}

var commands = map[string]string{
	"etcd":                    "go.etcd.io/etcd/server/v3",
	"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
	"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
	"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
}

func buildUpstream(ctx context.Context, scratch string) error {
	for name, pkg := range commands {
		log.Printf("building upstream's %s", name)
		cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3", "-o", filepath.Join(scratch, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// upstream's addresses on loopback.
const (
	etcdURL = "http://127.0.0.1:32379"
	peerURL = "http://127.0.0.1:32380"
	apiPort = "36443"
)

func startUpstream(ctx context.Context, o options) (*side, error) {
	scratch := o.scratch
	dir := filepath.Join(scratch, "upstream")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := writeCertificates(dir); err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	config := &rest.Config{Host: "https://127.0.0.1:" + apiPort, TLSClientConfig: rest.TLSClientConfig{CAFile: file("ca.crt"), CertFile: file("admin.crt"), KeyFile: file("admin.key")}}
	if err := writeKubeconfig(file("kubeconfig"), config); err != nil {
		return nil, err
	}
	s := &side{name: upstreamSide, config: config}
	var running []*exec.Cmd
	s.stop = func() error {
		for _, cmd := range running {
			cmd.Process.Signal(syscall.SIGTERM)
		}
		for _, cmd := range running {
			cmd.Wait()
		}
		return nil
	}
	start := func(name string, args ...string) error {
		out, err := os.Create(file(name + ".log"))
		if err != nil {
			return err
		}
		defer out.Close()
		cmd := exec.Command(filepath.Join(scratch, name), args...)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			return err
		}
		running, s.pids = append(running, cmd), append(s.pids, cmd.Process.Pid)
		return nil
	}
	began := time.Now()
	err := errors.Join(
		start("etcd", "--data-dir", file("etcd"), "--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", peerURL,
			"--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL),
		start("kube-apiserver", "--etcd-servers", etcdURL, "--secure-port", apiPort, "--bind-address", "127.0.0.1", "--client-ca-file", file("ca.crt"),
			"--tls-cert-file", file("server.crt"), "--tls-private-key-file", file("server.key"), "--service-account-key-file", file("sa.crt"),
			"--service-account-signing-key-file", file("sa.key"), "--service-account-issuer", "https://kubernetes.default.svc", "--authorization-mode", "Node,RBAC",
			"--service-cluster-ip-range", "10.250.0.0/16", "--enable-admission-plugins", "NodeRestriction", "--advertise-address", "127.0.0.1"),
	)
	if err == nil {
		err = waitReady(ctx, config)
	}
	if err == nil {
		err = errors.Join(
			start("kube-controller-manager", "--kubeconfig", file("kubeconfig"), "--service-account-private-key-file", file("sa.key"), "--root-ca-file", file("ca.crt"),
				"--use-service-account-credentials", "--bind-address", "127.0.0.1", "--secure-port", "36444", "--authentication-kubeconfig", file("kubeconfig"), "--authorization-kubeconfig", file("kubeconfig")),
			start("kube-scheduler", "--kubeconfig", file("kubeconfig"), "--bind-address", "127.0.0.1", "--secure-port", "36445", "--authentication-kubeconfig", file("kubeconfig"), "--authorization-kubeconfig", file("kubeconfig")))
	}
	s.start = time.Since(began)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func waitReady(ctx context.Context, config *rest.Config) error {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: time.Second}
	end := time.Now().Add(time.Minute)
	for {
		resp, err := client.Get(config.Host + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(end) {
			return fmt.Errorf("kube-apiserver is not ready: %w", err)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func writeKubeconfig(path string, c *rest.Config) error {
	return os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, c.Host, c.CAFile, c.CertFile, c.KeyFile), 0o600)
}

// writeCertificates makes an authority, the server's and an administrator's certificate, and a key for tokens.
func writeCertificates(dir string) error {
	ca, caKey, err := certificate(nil, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	if err != nil {
		return err
	}
	if err := writePair(dir, "ca", ca, caKey); err != nil {
		return err
	}
	for name, template := range map[string]*x509.Certificate{
		"server": {Subject: pkix.Name{CommonName: "kube-apiserver"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"admin":  {Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"sa":     {Subject: pkix.Name{CommonName: "sa"}},
	} {
		cert, key, err := certificate(ca, caKey, template)
		if err != nil {
			return err
		}
		if err := writePair(dir, name, cert, key); err != nil {
			return err
		}
	}
	return nil
}

func certificate(parent *x509.Certificate, parentKey *ecdsa.PrivateKey, t *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t.SerialNumber, t.NotBefore, t.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, parentKey = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func writePair(dir, name string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600),
		os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600),
	)
}
