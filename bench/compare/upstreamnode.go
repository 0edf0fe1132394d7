package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// What upstream's node is called and has on the machine. The bridge carries its address, so nothing listens outside of the machine.
const (
	nodeName   = "bench-node"
	nodeBridge = "bench-node0"
	nodeIP     = "10.251.0.1"
	podCIDR    = "10.251.0.0/16"
	nodeCgroup = "clipper-bench-node"
	nodeRun    = "/run/clipper-bench-node"
	pauseImage = "registry.k8s.io/pause:3.10.2"
)

// debian says where the programs that are not Kubernetes' come from.
const debian = "apt-get install containerd runc containernetworking-plugins iptables nftables"

// startUpstreamCluster starts a control plane and a node from nothing: containerd with runc, kubelet, kube-proxy and CoreDNS. Its images
// are imported while the control plane starts.
func startUpstreamCluster(ctx context.Context, o options) (s *side, err error) {
	if err := checkDebian(); err != nil {
		return nil, err
	}
	if err := removeNode(filepath.Join(o.scratch, "upstream")); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	u, err := newUpstream(o)
	if err != nil {
		return nil, err
	}
	stop := func() error { return errors.Join(u.stop(), u.cleanProxy(), removeNode(u.dir)) }
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	if err := errors.Join(makeNode(), u.writeNodeFiles(), writeImage(u.file("pause.tar"), pauseImage, u.program("pause"))); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := u.start("/usr/bin/containerd", "--config", u.file("containerd.toml")); err != nil {
		return nil, err
	}
	g, together := errgroup.WithContext(ctx)
	g.Go(func() error { return importImages(together, u.file("pause.tar"), o.demo) })
	if err := errors.Join(u.startControlPlane(ctx), g.Wait()); err != nil {
		return nil, err
	}
	controlPlane := len(u.running) - 1
	if err := u.startNode(ctx); err != nil {
		return nil, err
	}
	s = &side{name: upstreamSide, pids: u.pids(), config: u.config, start: time.Since(began), stop: stop}
	s.find = func() ([]int, error) {
		inPods, err := nodeProcesses()
		return append(u.pids(), inPods...), err
	}
	s.node = append(s.node, s.pids[0])
	s.node = append(s.node, s.pids[1+controlPlane:]...)
	return s, nil
}

func checkDebian() error {
	for _, path := range []string{"/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/usr/lib/cni/bridge", "/usr/sbin/nft", "/usr/sbin/iptables"} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: %s", err, debian)
		}
	}
	return nil
}

// startNode starts the node's programs and waits until it is Ready.
func (u *upstream) startNode(ctx context.Context) error {
	err := errors.Join(
		u.start(u.program("kubelet"), "--config", u.file("kubelet.yaml"), "--kubeconfig", u.kubeconfig("kubelet"), "--root-dir", u.file("kubelet"),
			"--cert-dir", u.file("kubelet-pki"), "--hostname-override", nodeName, "--node-ip", nodeIP),
		u.start(u.program("kube-proxy"), "--config", u.file("kube-proxy.yaml")),
		u.start(u.program("coredns"), "-conf", u.file("Corefile")),
	)
	if err != nil {
		return err
	}
	c, err := newClient(u.config, true)
	if err != nil {
		return err
	}
	if err := createDNSService(ctx, c); err != nil {
		return err
	}
	return waitNode(ctx, c, u.file("kubelet.log"))
}

func waitNode(ctx context.Context, c kubernetes.Interface, log string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		node, err := c.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err == nil {
			for _, cond := range node.Status.Conditions {
				if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
					return nil
				}
			}
			err = fmt.Errorf("conditions %v", node.Status.Conditions)
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("node is not ready: %w; the kubelet's log is %s", err, log)
		}
	}
}

// createDNSService makes the cluster's DNS service, behind which CoreDNS runs as a process of the node.
func createDNSService(ctx context.Context, c kubernetes.Interface) error {
	const name, port = "kube-dns", int32(53)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		ClusterIP: dnsIP, Ports: []corev1.ServicePort{{Name: "dns", Port: port, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: port, Protocol: corev1.ProtocolTCP}},
	}}
	if _, err := c.CoreV1().Services(metav1.NamespaceSystem).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{nodeIP}}},
	}
	for _, p := range service.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	_, err := c.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// importImages waits for containerd and gives it the archives' images.
func importImages(ctx context.Context, archives ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, archive := range archives {
		for {
			out, err := exec.CommandContext(ctx, "ctr", "--address", nodeRun+"/containerd.sock", "--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
			if err == nil {
				break
			}
			if !strings.Contains(string(out), "connection refused") && !strings.Contains(string(out), "no such file") || sleep(ctx, 20*time.Millisecond) != nil {
				return fmt.Errorf("import %s: %w: %s", archive, err, out)
			}
		}
	}
	return nil
}

// cleanProxy takes away kube-proxy's rules.
func (u *upstream) cleanProxy() error {
	out, err := exec.Command(u.program("kube-proxy"), "--cleanup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("kube-proxy --cleanup: %w: %s", err, out)
	}
	return nil
}

//go:embed node
var nodeFiles embed.FS

// writeNodeFiles writes the programs' configurations, with this run's paths and addresses.
func (u *upstream) writeNodeFiles() error {
	replace := strings.NewReplacer("$DIR", u.dir, "$RUN", nodeRun, "$BRIDGE", nodeBridge, "$CGROUP", nodeCgroup, "$NODE_IP", nodeIP, "$NODE", nodeName,
		"$POD_CIDR", podCIDR, "$DNS_IP", dnsIP, "$PAUSE", pauseImage)
	entries, err := nodeFiles.ReadDir("node")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := nodeFiles.ReadFile("node/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(u.file(e.Name()), []byte(replace.Replace(string(data))), 0o600); err != nil {
			return err
		}
	}
	if err := os.Mkdir(u.file("cni"), 0o700); err != nil {
		return err
	}
	return os.Rename(u.file("bench.conflist"), u.file("cni/bench.conflist"))
}
