package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cniList is a network configuration list.
type cniList struct {
	CNIVersion string      `json:"cniVersion"`
	Name       string      `json:"name"`
	Plugins    []cniPlugin `json:"plugins"`
}

// cniPlugin is one plugin's configuration, whose keys are the plugin's own.
type cniPlugin map[string]json.RawMessage

func (p cniPlugin) kind() string {
	var kind string
	if err := json.Unmarshal(p["type"], &kind); err != nil {
		return ""
	}
	return kind
}

// can tells whether the plugin asks for a capability's argument.
func (p cniPlugin) can(capability string) bool {
	var all map[string]bool
	return json.Unmarshal(p["capabilities"], &all) == nil && all[capability]
}

func (l *cniList) atLeast(major, minor int) bool {
	first, rest, _ := strings.Cut(l.CNIVersion, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (a > major || a == major && b >= minor)
}

// readCNIList reads the directory's first configuration.
func readCNIList(dir string) (*cniList, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read CNI configurations: %w", err)
	}
	for _, e := range entries {
		if kind := filepath.Ext(e.Name()); !slices.Contains([]string{".conflist", ".conf", ".json"}, kind) || e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read CNI configuration: %w", err)
		}
		list, err := parseCNIList(data)
		if err != nil {
			return nil, fmt.Errorf("read CNI configuration %s: %w", path, err)
		}
		return list, nil
	}
	return nil, fmt.Errorf("no network config found in %s", dir)
}

// parseCNIList reads a list, or a single plugin's configuration as a list of one.
func parseCNIList(data []byte) (*cniList, error) {
	var list cniList
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		var single cniPlugin
		if err := json.Unmarshal(data, &single); err != nil {
			return nil, err
		}
		list.Plugins = []cniPlugin{single}
	}
	if list.Name == "" {
		return nil, fmt.Errorf("it has no name")
	}
	if list.CNIVersion == "" {
		list.CNIVersion = "0.3.0"
	}
	for i, p := range list.Plugins {
		if kind := p.kind(); kind == "" || strings.ContainsRune(kind, filepath.Separator) {
			return nil, fmt.Errorf("plugin %d has no valid type", i+1)
		}
	}
	return &list, nil
}

// cniRuntime are the arguments for plugins with the capability of that name.
type cniRuntime struct {
	PortMappings []cniPort      `json:"portMappings,omitempty"`
	Bandwidth    *cniBandwidth  `json:"bandwidth,omitempty"`
	IPRanges     [][]cniIPRange `json:"ipRanges,omitempty"`
}

type cniPort struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// cniBandwidth has the bits per second, and bits at once, of both directions.
type cniBandwidth struct {
	IngressRate  int64 `json:"ingressRate,omitempty"`
	IngressBurst int64 `json:"ingressBurst,omitempty"`
	EgressRate   int64 `json:"egressRate,omitempty"`
	EgressBurst  int64 `json:"egressBurst,omitempty"`
}

type cniIPRange struct {
	Subnet string `json:"subnet"`
}

// unlimitedBurst is the greatest burst that the bandwidth plugin takes.
const unlimitedBurst = 1<<31 - 1

func newCNIRuntime(pod Sandbox, cidrs []netip.Prefix) cniRuntime {
	var r cniRuntime
	for _, p := range pod.HostPorts {
		m := cniPort{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(p.Protocol)}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		r.PortMappings = append(r.PortMappings, m)
	}
	if pod.IngressBitsPerSecond > 0 || pod.EgressBitsPerSecond > 0 {
		r.Bandwidth = &cniBandwidth{}
		if pod.IngressBitsPerSecond > 0 {
			r.Bandwidth.IngressRate, r.Bandwidth.IngressBurst = pod.IngressBitsPerSecond, unlimitedBurst
		}
		if pod.EgressBitsPerSecond > 0 {
			r.Bandwidth.EgressRate, r.Bandwidth.EgressBurst = pod.EgressBitsPerSecond, unlimitedBurst
		}
	}
	for _, c := range cidrs {
		r.IPRanges = append(r.IPRanges, []cniIPRange{{Subnet: c.String()}})
	}
	return r
}

// forPlugin returns the arguments that the plugin asks for, or nil.
func (r cniRuntime) forPlugin(p cniPlugin) map[string]any {
	args := make(map[string]any)
	if p.can("portMappings") && len(r.PortMappings) > 0 {
		args["portMappings"] = r.PortMappings
	}
	if p.can("bandwidth") && r.Bandwidth != nil {
		args["bandwidth"] = r.Bandwidth
	}
	if p.can("ipRanges") && len(r.IPRanges) > 0 {
		args["ipRanges"] = r.IPRanges
	}
	return args
}

// cniArgs are what Kubernetes' plugins know a pod by.
func cniArgs(pod Sandbox) string {
	return fmt.Sprintf("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s",
		pod.Namespace, pod.Name, pod.ID, pod.UID)
}
