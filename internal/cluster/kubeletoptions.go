package cluster

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/kubelet"
	"clipper.dev/clipper/internal/kubelet/configuration"
)

// KubeletOptions say how the kubelet runs: a KubeletConfiguration in files, and flags for the fields that people set most often, which come last.
type KubeletOptions struct {
	// RootDir holds the pods' folders and the plugins' sockets; "" is the cluster's own.
	RootDir string
	// ConfigFile is a KubeletConfiguration, ConfigDir a folder of drop-ins for it.
	ConfigFile, ConfigDir string

	fields map[string]any // that flags set
}

func (o *KubeletOptions) addFlags(f *pflag.FlagSet) {
	o.fields = map[string]any{}
	f.StringVar(&o.ConfigFile, "kubelet-config", "", "file with the kubelet's KubeletConfiguration; flags take precedence")
	f.StringVar(&o.ConfigDir, "kubelet-config-dir", "", "folder of files that end in .conf, each a KubeletConfiguration that is merged into it, in the order of their names")
	f.StringVar(&o.RootDir, "root-dir", "", "folder of the kubelet: pods' volumes, and the sockets of plugins (default: one in the cluster's data)")
	addKubeletFlags(f, o.fields)
}

// settings returns the kubelet's configuration as it is in effect.
func (o *NodeOptions) settings(l Layout) (*kubeletconfig.KubeletConfiguration, error) {
	given, err := configuration.Read(o.ConfigFile, o.ConfigDir)
	if err != nil {
		return nil, err
	}
	maps.Copy(given, o.fields)
	endpoint := "unix://" + l.RuntimeSocket()
	if o.RuntimeEndpoint != "" {
		given.Set("containerRuntimeEndpoint", "unix://"+strings.TrimPrefix(o.RuntimeEndpoint, "unix://"))
	}
	s, err := given.Complete(kubeletconfig.KubeletConfiguration{
		ContainerRuntimeEndpoint: endpoint, CgroupRoot: l.CgroupRoot, PodLogsDir: l.podLogs(wellKnownLogs), Port: int32(l.KubeletPort),
		ClusterDNS: []string{l.ServiceIP(dnsServiceIP).String()}, ClusterDomain: clusterDomain,
	})
	if err != nil {
		return nil, err
	}
	if err := kubelet.CheckSettings(s); err != nil {
		return nil, err
	}
	if o.RuntimeEndpoint = s.ContainerRuntimeEndpoint; o.RuntimeEndpoint == endpoint {
		o.RuntimeEndpoint = "" // the built-in one
	}
	if s.ClusterDomain != clusterDomain {
		return nil, fmt.Errorf("kubelet configuration: clusterDomain %s: the cluster's names end in %s", s.ClusterDomain, clusterDomain)
	}
	if *s.FailSwapOn {
		if err := checkSwap(); err != nil {
			return nil, fmt.Errorf("kubelet configuration: failSwapOn: %w", err)
		}
	}
	return s, nil
}

// checkSwap fails on a machine that swaps.
func checkSwap() error {
	data, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for swap: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) > 1 {
		return fmt.Errorf("running with swap on is not supported, please disable swap or set failSwapOn to false. /proc/swaps contained: %v", lines)
	}
	return nil
}

// prepareProcess gives the process what the kubelet's configuration says of it. That the machine doesn't let it is no reason not to run.
func (n *node) prepareProcess(s *kubeletconfig.KubeletConfiguration) {
	if err := os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, *s.OOMScoreAdj), 0); err != nil {
		n.log.Warn("oomScoreAdj not set", "error", err)
	}
	if s.EnableContentionProfiling {
		runtime.SetBlockProfileRate(1)
	}
}
