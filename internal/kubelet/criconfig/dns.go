package criconfig

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits of resolver configurations.
const (
	maxNameservers = 3
	maxSearchPaths = 32
	maxSearchChars = 2048
)

// DNS returns the pod's resolver configuration. Problems are warnings (reason and message) to record at the pod; they don't stop it.
func DNS(n *Node, pod *corev1.Pod) (config *runtimeapi.DNSConfig, warnings []Warning, err error) {
	policy := pod.Spec.DNSPolicy
	switch {
	case policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork:
		policy = corev1.DNSDefault
	case policy == corev1.DNSClusterFirstWithHostNet, policy == "":
		policy = corev1.DNSClusterFirst
	}
	if policy == corev1.DNSClusterFirst && len(n.ClusterDNS) == 0 {
		warnings = append(warnings, Warning{"MissingClusterDNS", fmt.Sprintf("pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			PodName(pod), corev1.DNSClusterFirst, corev1.DNSDefault)})
		policy = corev1.DNSDefault
	}
	config = &runtimeapi.DNSConfig{}
	if policy != corev1.DNSNone {
		if config, err = readResolvConf(n.ResolvConf); err != nil {
			return nil, nil, err
		}
	}
	if policy == corev1.DNSClusterFirst {
		config.Servers = slices.Clone(n.ClusterDNS)
		config.Options = []string{"ndots:5"}
		if d := n.ClusterDomain; d != "" {
			config.Searches = unique(append([]string{pod.Namespace + ".svc." + d, "svc." + d, d}, config.Searches...))
		}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		config.Servers = unique(append(config.Servers, c.Nameservers...))
		config.Searches = unique(append(config.Searches, c.Searches...))
		config.Options = mergeOptions(config.Options, c.Options)
	}
	return config, append(warnings, limitDNS(config)...), nil
}

// Warning is a warning event.
type Warning struct {
	Reason, Message string
}

func readResolvConf(path string) (*runtimeapi.DNSConfig, error) {
	config := &runtimeapi.DNSConfig{}
	if path == "" {
		return &runtimeapi.DNSConfig{Servers: []string{"127.0.0.1"}, Searches: []string{"."}}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the node's resolver configuration: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(fields) > 1 {
				config.Servers = append(config.Servers, fields[1])
			}
		case "search": // the last one counts
			config.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				config.Searches = append(config.Searches, s)
			}
		case "options":
			config.Options = append(config.Options, fields[1:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the node's resolver configuration %s: %w", path, err)
	}
	config.Options = mergeOptions(config.Options, nil)
	return config, nil
}

// mergeOptions keeps the last value of each option, in the order in which the options came first.
func mergeOptions(have []string, add []corev1.PodDNSConfigOption) []string {
	values := map[string]string{}
	var order []string
	set := func(name, option string) {
		if _, ok := values[name]; !ok {
			order = append(order, name)
		}
		values[name] = option
	}
	for _, o := range have {
		name, _, _ := strings.Cut(o, ":")
		set(name, o)
	}
	for _, o := range add {
		option := o.Name
		if o.Value != nil && *o.Value != "" {
			option += ":" + *o.Value
		}
		set(o.Name, option)
	}
	var out []string
	for _, name := range order {
		out = append(out, values[name])
	}
	return out
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func limitDNS(c *runtimeapi.DNSConfig) []Warning {
	var warnings []Warning
	if len(c.Servers) > maxNameservers {
		c.Servers = c.Servers[:maxNameservers]
		warnings = append(warnings, Warning{"DNSConfigForming",
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(c.Servers, " ")})
	}
	before := len(c.Searches)
	c.Searches = c.Searches[:min(before, maxSearchPaths)]
	c.Searches = slices.DeleteFunc(c.Searches, func(s string) bool { return len(s) > validation.DNS1123SubdomainMaxLength })
	for len(strings.Join(c.Searches, " ")) > maxSearchChars {
		c.Searches = c.Searches[:len(c.Searches)-1]
	}
	if len(c.Searches) < before {
		warnings = append(warnings, Warning{"DNSConfigForming",
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(c.Searches, " ")})
	}
	return warnings
}
