package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/demo"
	"clipper.dev/clipper/internal/dns"
	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/proxy"
	"clipper.dev/clipper/internal/proxy/nftables"
	"clipper.dev/clipper/internal/runtime"
	"clipper.dev/clipper/internal/runtime/image"
)

// node is what runs on every node beneath the kubelet: the pod network and the runtime.
type node struct {
	layout  Layout
	opts    *NodeOptions
	ip      netip.Addr
	log     *slog.Logger
	metrics *prometheus.Registry // what the kubelet's /metrics shows: everything that runs on the node
	network *network.Network
	runtime *runtime.Runtime // nil if another runtime is configured
}

// openNode makes the pod network and starts the built-in runtime. It needs nothing of the API.
func openNode(l Layout, o *NodeOptions, ip netip.Addr, keeper io.ReadSeeker, metrics *prometheus.Registry, log *slog.Logger) (n *node, err error) {
	n = &node{layout: l, opts: o, ip: ip, log: log, metrics: metrics}
	if n.network, err = network.New(networkConfig(l, o.NodeName, ip, log)); err != nil {
		return nil, fmt.Errorf("make the pod network: %w", err)
	}
	if o.RuntimeEndpoint != "" {
		return n, nil
	}
	path, err := installKeeper(l, keeper)
	if err != nil {
		return nil, err
	}
	registries, err := image.ReadRegistries(o.RegistryConfig)
	if err != nil {
		return nil, err
	}
	pods := network.Pods(n.network)
	if o.CNIConfDir != "" {
		cfg := network.CNIConfig{ConfDir: o.CNIConfDir, BinDirs: o.CNIBinDirs, StateDir: filepath.Join(l.DataDir, "cni"), Logger: log.With("component", "cni")}
		if pods, err = network.NewCNI(cfg); err != nil {
			return nil, fmt.Errorf("open the CNI configuration in %s: %w", o.CNIConfDir, err)
		}
	}
	n.runtime, err = runtime.New(runtime.Config{
		StateDir: l.RuntimeDir(), RunDir: filepath.Join(l.RunDir, "runtime"), Socket: l.RuntimeSocket(), KeeperPath: path,
		CgroupRoot: l.CgroupRoot[1:], Network: pods, Registries: registries, Version: Version,
		Logger: log.With("component", "runtime"),
	})
	if err != nil {
		return nil, fmt.Errorf("start the container runtime: %w", err)
	}
	return n, nil
}

func networkConfig(l Layout, nodeName string, ip netip.Addr, log *slog.Logger) network.Config {
	return network.Config{
		Bridge: l.Bridge, Table: l.NFTables + "-net", StateDir: l.NetworkDir(),
		ClusterCIDRs: []netip.Prefix{l.PodCIDR}, ServiceCIDRs: []netip.Prefix{l.ServiceCIDR},
		Masquerade: []netip.Prefix{l.NodeCIDR},
		NodeName:   nodeName, Underlay: ip,
		VXLAN:  network.VXLAN{Device: l.VXLAN, VNI: uint32(l.VNI), Port: uint16(l.VXLANPort)},
		Logger: log.With("component", "network"),
	}
}

// installKeeper writes the embedded keeper where it can be executed. Its name tells its contents, so that one that runs is never overwritten.
func installKeeper(l Layout, program io.ReadSeeker) (string, error) {
	if program == nil {
		return "", errors.New("this binary was built without the keeper: build it with make")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, program); err != nil {
		return "", fmt.Errorf("read the embedded keeper: %w", err)
	}
	path := filepath.Join(l.DataDir, "bin", "clipper-keeper-"+hex.EncodeToString(sum.Sum(nil)[:6]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := writeProgram(path+".part", program); err != nil {
		return "", fmt.Errorf("install the keeper: %w", err)
	}
	return path, os.Rename(path+".part", path)
}

func writeProgram(path string, program io.ReadSeeker) error {
	if _, err := program.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, program)
	return errors.Join(err, f.Close())
}

// importDemo brings the demonstration image, once.
func (n *node) importDemo(ctx context.Context) error {
	if n.runtime == nil {
		return nil
	}
	mark := filepath.Join(n.layout.DataDir, "demo-"+Version)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	archive, err := demo.Archive()
	if err != nil {
		return err
	}
	if _, err := n.runtime.Images().Import(ctx, archive); err != nil {
		return fmt.Errorf("import the demonstration image: %w", err)
	}
	for _, name := range demo.Images { // no registry has them, should a full disk have unused images collected
		if err := n.runtime.Images().Pin(name); err != nil {
			return fmt.Errorf("keep the demonstration image: %w", err)
		}
	}
	return os.WriteFile(mark, nil, 0o644)
}

// serveRuntime serves the built-in runtime until ctx ends. It comes before the kubelet, which looks for it at once.
func (n *node) serveRuntime(ctx context.Context) error {
	if n.runtime == nil {
		return nil
	}
	return n.runtime.Serve(ctx)
}

// run serves, with the node's own client, Services, names and the overlay, until ctx ends.
func (n *node) run(ctx context.Context, c client.Client) error {
	g, ctx := errgroup.WithContext(ctx)
	dnsIP := n.layout.ServiceIP(dnsServiceIP)
	backend, err := nftables.New(nftables.Config{
		Table: n.layout.NFTables + "-proxy", ClusterCIDRs: []netip.Prefix{n.layout.PodCIDR}, ServiceCIDRs: []netip.Prefix{n.layout.ServiceCIDR},
		Logger: n.log.With("component", "proxy"),
	})
	if err != nil {
		return fmt.Errorf("open the service proxy: %w", err)
	}
	defer backend.Close()
	proxyMetrics, err := proxy.NewMetrics(n.metrics)
	if err != nil {
		return fmt.Errorf("register the proxy's metrics: %w", err)
	}
	dnsMetrics, err := dns.NewMetrics(n.metrics)
	if err != nil {
		return fmt.Errorf("register the DNS server's metrics: %w", err)
	}
	g.Go(func() error {
		return proxy.Run(ctx, c, proxy.Config{NodeName: n.opts.NodeName, Backend: backend, NodeLocal: []netip.Addr{dnsIP}, Metrics: proxyMetrics, Logger: n.log.With("component", "proxy")})
	})
	g.Go(func() error {
		return dns.Run(ctx, c, dns.Config{
			Domain: clusterDomain, Addresses: []netip.AddrPort{netip.AddrPortFrom(dnsIP, 53)}, Device: n.layout.Bridge, Metrics: dnsMetrics,
			Logger: n.log.With("component", "dns"),
		})
	})
	g.Go(func() error { return n.followPeers(ctx, c) })
	err = g.Wait()
	return errors.Join(err, n.network.Close())
}

// followPeers keeps the overlay's routes to the other nodes.
func (n *node) followPeers(ctx context.Context, c client.Client) error {
	nodes, err := client.Nodes.View(ctx, c, client.Selection{Trim: peerAlone})
	if err != nil {
		return fmt.Errorf("view nodes: %w", err)
	}
	if err := nodes.View.WaitFor(ctx, 0); err != nil {
		return ignoreEnd(ctx, err)
	}
	var changed = make(chan struct{}, 1)
	var g errgroup.Group
	g.Go(func() error {
		return nodes.Subscribe(ctx, func(old, new *corev1.Node) {
			if old != nil && new != nil && samePeer(old, new) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				if err := n.network.SetPeers(ctx, peersOf(nodes.List("", nil))); err != nil && ctx.Err() == nil {
					n.log.Error("routing to the other nodes failed", "component", "network", "error", err)
				}
			}
		}
	})
	return ignoreEnd(ctx, g.Wait())
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// peerAlone leaves of a Node what the way to it needs: each node keeps all of them.
func peerAlone(o client.Object) {
	n := o.(*corev1.Node)
	n.Labels, n.Annotations = nil, nil
	n.Spec = corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
}

func samePeer(a, b *corev1.Node) bool {
	return slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

func peersOf(nodes []*corev1.Node) []network.Peer {
	var peers []network.Peer
	for _, o := range nodes {
		p := network.Peer{Name: o.Name}
		for _, a := range o.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && !p.Underlay.IsValid() {
				p.Underlay = ip
			}
		}
		for _, text := range o.Spec.PodCIDRs {
			if cidr, err := netip.ParsePrefix(text); err == nil {
				p.PodCIDRs = append(p.PodCIDRs, cidr)
			}
		}
		if p.Underlay.IsValid() && len(p.PodCIDRs) > 0 {
			peers = append(peers, p)
		}
	}
	return peers
}

// readyOnce tells, once, when a node is Ready as the API sees it.
func readyOnce(ctx context.Context, c client.Client, name string, fn func()) error {
	nodes, err := client.Nodes.View(ctx, c, client.Selection{Name: name})
	if err != nil {
		return fmt.Errorf("view node %s: %w", name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	err = nodes.Subscribe(ctx, func(_, n *corev1.Node) {
		if n == nil {
			return
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				once.Do(fn)
				cancel()
			}
		}
	})
	return ignoreEnd(ctx, err)
}
