package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/rest"
)

// upstream's addresses. The API and etcd listen on loopback.
const (
	etcdURL     = "http://127.0.0.1:32379"
	peerURL     = "http://127.0.0.1:32380"
	apiPort     = "36443"
	serviceCIDR = "10.250.0.0/16"
	dnsIP       = "10.250.0.10"
)

// startPatience is how long a program may take until it is ready.
const startPatience = 3 * time.Minute

// upstream is a control plane of upstream's programs, and perhaps a node.
type upstream struct {
	bin    string // folder of the programs
	dir    string // folder of everything else
	config *rest.Config
	programs
}

// startUpstream starts a control plane alone.
func startUpstream(ctx context.Context, o options) (*side, error) {
	u, err := newUpstream(o)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := u.startControlPlane(ctx); err != nil {
		return nil, errors.Join(err, u.stop())
	}
	return &side{name: upstreamSide, pids: u.pids(), config: u.config, start: time.Since(began), stop: u.stop}, nil
}

// newUpstream prepares an empty folder with certificates and a kubeconfig for everybody.
func newUpstream(o options) (*upstream, error) {
	u := &upstream{bin: o.scratch, dir: filepath.Join(o.scratch, "upstream")}
	u.programs.dir = u.dir
	if err := errors.Join(os.RemoveAll(u.dir), os.MkdirAll(u.dir, 0o700)); err != nil {
		return nil, err
	}
	if err := writeCertificates(u.dir); err != nil {
		return nil, err
	}
	for _, client := range slices.Sorted(maps.Keys(clientSubjects)) {
		if err := writeKubeconfig(u.kubeconfig(client), u.clientConfig(client)); err != nil {
			return nil, err
		}
	}
	u.config = u.clientConfig("admin")
	return u, nil
}

func (u *upstream) file(name string) string { return filepath.Join(u.dir, name) }

func (u *upstream) kubeconfig(client string) string { return u.file(client + ".kubeconfig") }

func (u *upstream) clientConfig(client string) *rest.Config {
	return &rest.Config{Host: "https://127.0.0.1:" + apiPort, TLSClientConfig: rest.TLSClientConfig{
		CAFile: u.file("ca.crt"), CertFile: u.file(client + ".crt"), KeyFile: u.file(client + ".key"),
	}}
}

func (u *upstream) program(name string) string { return filepath.Join(u.bin, name) }

// startControlPlane starts etcd and the API server and, as soon as that is ready, the controllers and the scheduler. The two have more
// requests per second than upstream's defaults (20 and 50) grant them, so that the machine is the limit.
func (u *upstream) startControlPlane(ctx context.Context) error {
	err := errors.Join(
		u.start(u.program("etcd"), "--data-dir", u.file("etcd"), "--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL),
		u.start(u.program("kube-apiserver"), "--etcd-servers", etcdURL, "--secure-port", apiPort, "--bind-address", "127.0.0.1",
			"--advertise-address", nodeIP, "--client-ca-file", u.file("ca.crt"), "--tls-cert-file", u.file("server.crt"),
			"--tls-private-key-file", u.file("server.key"), "--service-account-key-file", u.file("sa.crt"),
			"--service-account-signing-key-file", u.file("sa.key"), "--service-account-issuer", "https://kubernetes.default.svc",
			"--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", serviceCIDR, "--enable-admission-plugins", "NodeRestriction"),
	)
	if err != nil {
		return err
	}
	if err := waitReady(ctx, u.config); err != nil {
		return fmt.Errorf("%w; its log is %s", err, u.file("kube-apiserver.log"))
	}
	serve := func(client, port string) []string {
		config := u.kubeconfig(client)
		return []string{"--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config, "--bind-address", "127.0.0.1",
			"--secure-port", port, "--kube-api-qps", "5000", "--kube-api-burst", "5000"}
	}
	return errors.Join(
		u.start(u.program("kube-controller-manager"), append(serve("kube-controller-manager", "36444"),
			"--service-account-private-key-file", u.file("sa.key"), "--root-ca-file", u.file("ca.crt"), "--use-service-account-credentials")...),
		u.start(u.program("kube-scheduler"), serve("kube-scheduler", "36445")...),
	)
}

func waitReady(ctx context.Context, config *rest.Config) error {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport, Timeout: time.Second}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := call(ctx, client, config.Host+"/readyz")
		if err == nil {
			return nil
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("kube-apiserver is not ready: %w", err)
		}
	}
}
