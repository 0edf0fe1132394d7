package samedatabase

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterName is the test's own cluster.
const clusterName = "samedatabase"

// dataDir is where Clipper keeps what a cluster needs beside etcd.
const dataDir = "/var/lib/clipper-" + clusterName

// process runs a program until the test ends or stop is called.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

func start(t *testing.T, name, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{}), log: filepath.Join(t.TempDir(), name+".log")}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, p.tail())
		}
	})
	return p
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
}

func (p *process) tail() []byte {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(data, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-25):], []byte("\n"))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startEtcd starts an etcd with an empty database and returns its address.
func startEtcd(t *testing.T) (string, *clientv3.Client) {
	t.Helper()
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	start(t, "etcd", *etcdPath, "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "warn")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client, c
}

// A side is one of the two servers.
type side struct {
	name   string
	config func(t *testing.T) *rest.Config
	run    func(t *testing.T, etcd string, flags ...string) *process
}

var sides = map[string]side{
	"Clipper": {
		name: "Clipper",
		run: func(t *testing.T, etcd string, flags ...string) *process {
			return start(t, "clipper", *clipperPath, append([]string{"server", "--api-only", "--name", clusterName, "--etcd-endpoints", etcd}, flags...)...)
		},
		config: func(t *testing.T) *rest.Config { return kubeconfig(t) },
	},
	"kube-apiserver": {
		name: "kube-apiserver",
		run: func(t *testing.T, etcd string, flags ...string) *process {
			pki := func(name string) string { return filepath.Join(dataDir, "pki", name) }
			args := []string{"--etcd-servers", etcd, "--secure-port", strconv.Itoa(upstreamPort), "--bind-address", "127.0.0.1",
				"--client-ca-file", pki("ca.crt"), "--tls-cert-file", pki("apiserver.crt"), "--tls-private-key-file", pki("apiserver.key"),
				"--service-account-key-file", pki("sa.pub"), "--service-account-signing-key-file", pki("sa.key"),
				"--service-account-issuer", "https://kubernetes.default.svc.cluster.local", "--authorization-mode", "Node,RBAC",
				"--service-cluster-ip-range", serviceRange, "--enable-admission-plugins", "NodeRestriction", "--advertise-address", "127.0.0.1",
				"--endpoint-reconciler-type", "none"}
			if len(flags) == 0 {
				flags = []string{"--encryption-provider-config", pki("encryption.yaml")}
			}
			return start(t, "kube-apiserver", *apiserverPath, append(args, flags...)...)
		},
		config: func(t *testing.T) *rest.Config {
			c := kubeconfig(t)
			c.Host = "https://127.0.0.1:" + strconv.Itoa(upstreamPort)
			return c
		},
	},
}

const (
	upstreamPort = 26443            // kube-apiserver's
	serviceRange = "10.45.128.0/18" // what Clipper derives from the cluster's name
)

func kubeconfig(t *testing.T) *rest.Config {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", "/etc/clipper-"+clusterName+"/kubeconfig")
	if err != nil {
		t.Fatal(err)
	}
	c.QPS = -1
	return c
}

// up starts a server on an etcd and waits until it is ready. Flags replace what they share of encryption.
func (s side) up(t *testing.T, etcd string, flags ...string) *server {
	t.Helper()
	p := s.run(t, etcd, flags...)
	deadline := time.Now().Add(time.Minute)
	for {
		select {
		case <-p.done:
			t.Fatalf("%s ended while it started:\n%s", s.name, p.tail())
		case <-time.After(100 * time.Millisecond):
		}
		if _, err := os.Stat("/etc/clipper-" + clusterName + "/kubeconfig"); err == nil && ready(t, s.config(t)) {
			return newServer(t, s, p)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready:\n%s", s.name, p.tail())
		}
	}
}

func ready(t *testing.T, c *rest.Config) bool {
	t.Helper()
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		t.Fatal(err)
	}
	client.Timeout = 2 * time.Second
	resp, err := client.Get(c.Host + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// purge removes what a run left on the machine.
func purge() error {
	if out, err := exec.CommandContext(context.Background(), *clipperPath, "down", "--purge", "--name", clusterName).CombinedOutput(); err != nil {
		return fmt.Errorf("clipper down --purge: %w\n%s", err, out)
	}
	return nil
}
