package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"clipper.dev/clipper/test/conformance/registry"
)

// registryPort is the image registry's on the network between the nodes, where nothing else listens.
const registryPort = "5000"

// openRegistry serves the images where all nodes of the cluster reach them, and nobody else: on the address that the first node has on the network
// between them.
func openRegistry(ctx context.Context, address string, archives []string) (*registry.Registry, error) {
	return registry.Open(ctx, func() (net.Listener, error) { return net.Listen("tcp", address) }, archives)
}

// nodeAddress is the address of the first node on the network of the cluster's nodes.
func (o options) nodeAddress(ctx context.Context) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, o.clipper, "kubectl", "--kubeconfig", clusterKubeconfig, "get", "node", strings.ToLower(host),
		"-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the address of node %s: %w", host, err)
	}
	address := strings.TrimSpace(string(out))
	if net.ParseIP(address) == nil {
		return "", fmt.Errorf("node %s has no address: %q", host, address)
	}
	return address, nil
}

// mirror writes the configuration by which nodes pull from the registry.
func (o options) mirror(address string) (file string, err error) {
	file, err = filepath.Abs(filepath.Join(o.out, "registries.yaml"))
	if err != nil {
		return "", err
	}
	return file, registry.WriteMirrors(file, address)
}
