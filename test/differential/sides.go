package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// clusterName is the compared cluster's: a run disturbs no other.
const clusterName = "differ"

// upstream's addresses on loopback.
const (
	etcdURL     = "http://127.0.0.1:33379"
	peerURL     = "http://127.0.0.1:33380"
	upstreamURL = "https://127.0.0.1:33443"
)

// side is a server that answers.
type side struct {
	name   string
	url    string
	client *http.Client
}

// sides are the two that are compared, upstream first.
type sides struct {
	each     [2]*side
	running  []*exec.Cmd
	clipper  string
	logs     string
	services netip.Prefix // from which both give Services their addresses
	database database     // upstream's
}

// startBoth starts Clipper, then upstream with Clipper's keys and range of Services: both know the same users and addresses.
func startBoth(ctx context.Context, o options) (_ *sides, err error) {
	if err := os.MkdirAll(o.scratch, 0o755); err != nil {
		return nil, err
	}
	if err := buildUpstream(ctx, o.upstream); err != nil {
		return nil, err
	}
	b := &sides{clipper: o.clipper, logs: o.scratch, database: database{url: etcdURL}}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if err := b.purge(); err != nil {
		return nil, fmt.Errorf("purge an earlier run: %w", err)
	}
	if err := b.startClipper(); err != nil {
		return nil, err
	}
	url, client, err := waitClipper(ctx)
	if err != nil {
		return nil, err
	}
	clipper := &side{name: "clipper", url: url, client: client}
	if b.services, err = serviceRange(ctx, clipper); err != nil {
		return nil, err
	}
	if err := b.startUpstream(o); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, client, upstreamURL); err != nil {
		return nil, err
	}
	// An addition of Clipper's that changes what is written to claims.
	ask(ctx, clipper, step{method: http.MethodDelete, path: "/apis/storage.k8s.io/v1/storageclasses/local-path"}, nil)
	b.each = [2]*side{{name: "upstream", url: upstreamURL, client: client}, clipper}
	return b, nil
}

func (b *sides) startClipper(flags ...string) error {
	return b.start("clipper", b.clipper, append([]string{"server", "--name", clusterName, "--api-only", "--log-level", "warn"}, flags...)...)
}

// share starts Clipper anew on upstream's database: from then on both have the same objects, and nothing may be written but dry.
func (b *sides) share(ctx context.Context) error {
	i := slices.IndexFunc(b.running, func(cmd *exec.Cmd) bool { return cmd.Path == b.clipper })
	end(b.running[i])
	b.running = slices.Delete(b.running, i, i+1)
	if err := b.startClipper("--etcd-endpoints", etcdURL); err != nil {
		return err
	}
	return waitReady(ctx, b.each[1].client, b.each[1].url)
}

func (b *sides) startUpstream(o options) error {
	data := filepath.Join(o.scratch, "etcd")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	key := func(name string) string { return filepath.Join("/var/lib/clipper-"+clusterName+"/pki", name) }
	return errors.Join(
		b.start("etcd", filepath.Join(o.upstream, "etcd"), "--data-dir", data, "--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL, "--unsafe-no-fsync", "--log-level", "warn"),
		b.start("kube-apiserver", filepath.Join(o.upstream, "kube-apiserver"), "--etcd-servers", etcdURL, "--secure-port", "33443", "--bind-address", "127.0.0.1",
			"--client-ca-file", key("ca.crt"), "--tls-cert-file", key("apiserver.crt"), "--tls-private-key-file", key("apiserver.key"),
			"--service-account-key-file", key("sa.pub"), "--service-account-signing-key-file", key("sa.key"),
			"--service-account-issuer", "https://kubernetes.default.svc.cluster.local", "--authorization-mode", "Node,RBAC",
			"--proxy-client-cert-file", key("front-proxy-client.crt"), "--proxy-client-key-file", key("front-proxy-client.key"),
			"--requestheader-client-ca-file", key("front-proxy-ca.crt"), "--requestheader-allowed-names", "front-proxy-client",
			"--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group", "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
			"--service-cluster-ip-range", b.services.String(), "--enable-admission-plugins", "NodeRestriction", "--advertise-address", "127.0.0.1", "--allow-privileged"),
	)
}

func (b *sides) start(name, program string, args ...string) error {
	out, err := os.Create(filepath.Join(b.logs, name+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	b.running = append(b.running, cmd)
	return nil
}

// stop ends what runs, the last first, and removes the cluster.
func (b *sides) stop() {
	for i := len(b.running) - 1; i >= 0; i-- {
		end(b.running[i])
	}
	if err := b.purge(); err != nil {
		log.Print(err)
	}
}

// end asks a process to end, and ends one that doesn't.
func end(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	kill.Stop()
}

func (b *sides) purge() error {
	return exec.Command(b.clipper, "down", "--purge", "--name", clusterName).Run()
}

// buildUpstream builds what is missing in the folder. The module of the benchmark pins the versions.
func buildUpstream(ctx context.Context, dir string) error {
	for name, pkg := range map[string]string{"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		log.Printf("building upstream's %s", name)
		cmd := exec.CommandContext(ctx, "go", "-C", "../../bench/compare", "build", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

var serverLine = regexp.MustCompile(`server: (\S+)`)

// waitClipper waits until Clipper has written the administrator's kubeconfig and is ready. Its keys lie where every cluster has them.
func waitClipper(ctx context.Context) (url string, client *http.Client, err error) {
	end, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		data, err := os.ReadFile("/etc/clipper-" + clusterName + "/kubeconfig")
		if m := serverLine.FindSubmatch(data); err == nil && m != nil {
			url = strings.Trim(string(m[1]), `"`)
			break
		}
		if err := sleep(end, 50*time.Millisecond); err != nil {
			return "", nil, fmt.Errorf("wait for Clipper's kubeconfig: %w", err)
		}
	}
	if client, err = newClient("/var/lib/clipper-" + clusterName + "/pki"); err != nil {
		return "", nil, err
	}
	return url, client, waitReady(ctx, client, url)
}

func newClient(pki string) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true, DisableCompression: true},
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func waitReady(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		resp, err := client.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%s is not ready: %w", url, err)
		}
	}
}

// serviceRange waits for the range of addresses from which Clipper gives Services theirs.
func serviceRange(ctx context.Context, s *side) (netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var found struct{ Spec struct{ CIDRs []string } }
		err := getJSON(ctx, s, "/apis/networking.k8s.io/v1/servicecidrs/kubernetes", &found)
		if err == nil && len(found.Spec.CIDRs) > 0 {
			return netip.ParsePrefix(found.Spec.CIDRs[0])
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return netip.Prefix{}, fmt.Errorf("the range of Services is unknown: %w", err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
