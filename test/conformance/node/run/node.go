package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// node is the node under test: number 2 of a machine whose first node is off.
type node struct {
	Name         string // the cluster's
	Clipper, Dir string
	Namespace    string // of the network in which clipper is called
}

const (
	// registryAddress is where the node reaches the registry of the images, and nobody else does: on its own loopback. Specs have a registry of their own at port 5000.
	registryAddress = "127.0.0.1:5001"
	mirrorsFile     = "registries.yaml"
)

// listenIn opens an address in another network namespace.
func listenIn(namespace, address string) (listener net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var f *os.File
		if f, err = os.Open(namespace); err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter %s: %w", namespace, err)
			return
		}
		listener, err = net.Listen("tcp", address)
	}()
	<-done
	return listener, err
}

// stateEnv names the file in which the programs that stand in for systemd's find the node.
const stateEnv = "CLIPPER_NODE_SUITE_STATE"

func (n *node) stateFile() string { return filepath.Join(n.Dir, "node.json") }
func (n *node) netns() string     { return "/run/netns/clipper-" + n.Name + "-node2" }
func (n *node) socket() string    { return "/run/clipper-" + n.Name + "/node2/cri.sock" }
func (n *node) pidFile() string   { return "/run/clipper-" + n.Name + "/node2/clipper.pid" }

func (n *node) remember() error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(n.stateFile(), data, 0o644)
}

func recall() (n node, err error) {
	data, err := os.ReadFile(os.Getenv(stateEnv))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

func (n *node) clipper(ctx context.Context, args ...string) error {
	args = append([]string{"--net=" + n.Namespace, n.Clipper}, append(args, "--name", n.Name)...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("clipper %s: %w", args[2], err)
	}
	return nil
}

// start starts the control plane and the agent, or of them what doesn't run.
func (n *node) start(ctx context.Context) error {
	return n.clipper(ctx, "up", "--no-node", "--nodes", "2", "--root-dir", kubeletDir, "--registry-config", filepath.Join(n.Dir, mirrorsFile),
		"--kubelet-config", filepath.Join(n.Dir, configFile), "--kubelet-config-dir", filepath.Join(n.Dir, "kubelet.conf.d"))
}

func (n *node) kubectl(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"kubectl", "--kubeconfig", "/etc/clipper-" + n.Name + "/kubeconfig"}, args...)
	out, err := exec.CommandContext(ctx, n.Clipper, args...).Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w", args[3], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// untainted keeps the node free of taints: upstream runs the suite without the controller that taints a node under pressure, and the suite finds its node
// among those without taints.
func (n *node) untainted(ctx context.Context) error {
	_, err := n.kubectl(ctx, "delete", "clusterrolebinding", "system:controller:node-controller")
	return err
}

// endpoint is how the suite reaches the API.
type endpoint struct{ host, token, node string }

func (n *node) endpoint(ctx context.Context) (e endpoint, err error) {
	for _, args := range [][]string{
		{"create", "serviceaccount", "node-suite", "--namespace", "kube-system"},
		{"create", "clusterrolebinding", "node-suite", "--clusterrole", "cluster-admin", "--serviceaccount", "kube-system:node-suite"},
	} {
		if _, err := n.kubectl(ctx, args...); err != nil {
			return e, err
		}
	}
	if e.token, err = n.kubectl(ctx, "create", "token", "node-suite", "--namespace", "kube-system", "--duration", "24h"); err != nil {
		return e, err
	}
	if e.node, err = n.kubectl(ctx, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"); err != nil {
		return e, err
	}
	addresses, err := n.kubectl(ctx, "get", "endpointslices", "--namespace", "default", "kubernetes", "-o", "jsonpath={.endpoints[0].addresses[0]}:{.ports[0].port}")
	e.host = "https://" + addresses
	return e, err
}
