package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits that the C library's resolver sets.
const maxSearches = 32

// Files are the host's paths of the files that all containers of a sandbox share.
type Files struct {
	Hostname, Hosts, ResolvConf string
}

// FilesIn names the files in a sandbox's folder.
func FilesIn(dir string) Files {
	return Files{
		Hostname:   filepath.Join(dir, "hostname"),
		Hosts:      filepath.Join(dir, "hosts"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
}

// WriteFiles writes the files of a sandbox.
func WriteFiles(dir string, config *runtimeapi.PodSandboxConfig) error {
	files := FilesIn(dir)
	hostname := config.GetHostname()
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("read the node's name: %w", err)
		}
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read the node's hosts: %w", err)
	}
	resolv, err := resolvConf(config.GetDnsConfig())
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		files.Hostname: []byte(hostname + "\n"), files.Hosts: hosts, files.ResolvConf: resolv,
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write the sandbox's files: %w", err)
		}
		// The mode must not depend on this process's mask: every user of the pod reads them.
		if err := os.Chmod(path, 0o644); err != nil {
			return fmt.Errorf("write the sandbox's files: %w", err)
		}
	}
	return nil
}

// resolvConf writes the resolver's configuration; without one the node's is used.
func resolvConf(dns *runtimeapi.DNSConfig) ([]byte, error) {
	if dns == nil || len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) == 0 {
		content, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("read the node's resolver configuration: %w", err)
		}
		return content, nil
	}
	if len(dns.GetSearches()) > maxSearches {
		return nil, fmt.Errorf("DNSOption.Searches has more than %d domains", maxSearches)
	}
	var b strings.Builder
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return []byte(b.String()), nil
}
