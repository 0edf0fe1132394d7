package kubelet

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/eviction"
	"clipper.dev/clipper/internal/kubelet/resources"
	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// Config is what a kubelet is made from. Zero values are upstream's defaults unless a field says otherwise.
type Config struct {
	// Cluster names the cluster, so that several on one machine and one runtime leave each other alone. Required.
	Cluster string
	// NodeName is the name of the Node object. Required.
	NodeName string
	// NodeIPs are the node's addresses, the primary one first; at most one for each family. Required.
	NodeIPs []netip.Addr
	// Labels and Taints are set when the Node is registered.
	Labels map[string]string
	Taints []corev1.Taint
	// ProviderID is set on the Node object.
	ProviderID string

	// Client reads and writes the API as system:node:<NodeName>. Required.
	Client client.Client
	// RuntimeEndpoint is the runtime's unix socket. Required.
	RuntimeEndpoint string
	// Runtime is a connection to a runtime in this process, which makes no use of the socket; nil connects to RuntimeEndpoint.
	Runtime grpc.ClientConnInterface
	// RootDir holds the pods' volumes. Required.
	RootDir string
	// LocalVolumeDir holds the volumes that the built-in provisioner makes for this node; "" is none.
	LocalVolumeDir string
	// LogDir holds the containers' logs: <namespace>_<name>_<uid>/<container>/<n>.log. Required.
	LogDir string
	// LogLinkDir gets links to the containers' logs, by the names that collectors of logs expect; "" is none.
	LogLinkDir string
	// NodeLogDir is what /logs/ serves; "" serves nothing.
	NodeLogDir string
	// SeccompDir holds profiles of type Localhost; "" is RootDir/seccomp.
	SeccompDir string
	// CgroupRoot is the control group below which kubepods lies, as "/clipper". Required.
	CgroupRoot string
	// StaticPodPath is a folder of pod manifests, watched; "" is none.
	StaticPodPath string
	// DefaultPod fills in a static pod's absent fields as the API does; nil is the table of kinds.
	DefaultPod func(*corev1.Pod)

	// Listen is the address of the HTTPS API, as "10.0.0.1:10250"; "" is none.
	Listen string
	// TLS is the API's server certificate and, for clients that show certificates, their authority.
	TLS *tls.Config
	// Port is announced in the Node's status; 0 is that of Listen.
	Port int32

	// ClusterDNS and ClusterDomain go into pods' resolver configuration.
	ClusterDNS    []string
	ClusterDomain string // "" is cluster.local
	// ResolvConf is the node's resolver configuration; "" is /etc/resolv.conf.
	ResolvConf string

	// MaxPods bounds the node's pods; 0 is 110.
	MaxPods int
	// PodPIDsLimit bounds the processes of a pod; 0 is no bound.
	PodPIDsLimit int64
	// ShutdownPeriods are the times that pods have, by priority, to end before the machine goes down; empty is that nothing waits for them.
	ShutdownPeriods []shutdown.Period
	// KubeReserved and SystemReserved are kept from pods.
	KubeReserved, SystemReserved corev1.ResourceList
	// Resources says how pods get CPUs and memory of their own. CPUs that it reserves by their numbers take the place of those that are reserved here.
	Resources resources.Policies
	// EvictionHard are the thresholds from which pods are evicted at once; nil is upstream's, an empty map none.
	EvictionHard map[eviction.Signal]eviction.Value
	// EvictionSoft with EvictionSoftGrace are thresholds that may be crossed for a time.
	EvictionSoft      map[eviction.Signal]eviction.Value
	EvictionSoftGrace map[eviction.Signal]time.Duration
	// AllowedUnsafeSysctls are names and prefixes ("net.*") that pods may set beyond the safe ones.
	AllowedUnsafeSysctls []string
	// NoCPUCFSQuota leaves CPU limits unenforced.
	NoCPUCFSQuota bool
	// SeccompDefault makes RuntimeDefault the profile of containers that name none.
	SeccompDefault bool
	// MaxParallelImagePulls bounds the pulls at a time; 0 is 5.
	MaxParallelImagePulls int
	// ContainerLogMaxSize in bytes and ContainerLogMaxFiles bound a container's logs; 0 is 10 Mi and 5.
	ContainerLogMaxSize  int64
	ContainerLogMaxFiles int
	// ImageGCHigh and ImageGCLow are percentages of the images' disk; 0 is 85 and 80.
	ImageGCHigh, ImageGCLow int
	// Version is reported as the kubelet's; "" is v1.36.3.
	Version string

	// Logger is required.
	Logger *slog.Logger
}

const (
	defaultMaxPods    = 110
	defaultLogSize    = 10 << 20
	defaultLogFiles   = 5
	defaultHigh       = 85
	defaultLow        = 80
	defaultVersion    = "v1.36.3"
	defaultPort       = 10250
	defaultResolvConf = "/etc/resolv.conf"
	defaultDomain     = "cluster.local"
)

// connectRuntime connects to the runtime that is configured.
func (c *Config) connectRuntime() (*cri.Client, error) {
	if c.Runtime != nil {
		return cri.New(c.Runtime, c.owner(), c.Logger), nil
	}
	return cri.Dial(c.RuntimeEndpoint, c.owner(), c.Logger)
}

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	var missing []error
	for name, value := range map[string]string{
		"Cluster": c.Cluster, "NodeName": c.NodeName, "RuntimeEndpoint": c.RuntimeEndpoint, "RootDir": c.RootDir, "LogDir": c.LogDir, "CgroupRoot": c.CgroupRoot,
	} {
		if value == "" {
			missing = append(missing, fmt.Errorf("kubelet configuration: %s is required", name))
		}
	}
	if c.Client == nil || c.Logger == nil || len(c.NodeIPs) == 0 {
		missing = append(missing, errors.New("kubelet configuration: Client, Logger and NodeIPs are required"))
	}
	if c.StaticPodPath != "" && c.DefaultPod == nil {
		if c.DefaultPod = defaultPod(); c.DefaultPod == nil {
			missing = append(missing, errors.New("kubelet configuration: StaticPodPath needs DefaultPod"))
		}
	}
	if c.Listen != "" && c.TLS == nil {
		missing = append(missing, errors.New("kubelet configuration: Listen needs TLS"))
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	var err error
	if c.RootDir, err = filepath.Abs(c.RootDir); err != nil {
		return fmt.Errorf("kubelet configuration: RootDir: %w", err)
	}
	c.SeccompDir = cmp.Or(c.SeccompDir, filepath.Join(c.RootDir, "seccomp"))
	c.ClusterDomain = cmp.Or(c.ClusterDomain, defaultDomain)
	c.ResolvConf = cmp.Or(c.ResolvConf, defaultResolvConf)
	c.MaxPods = cmp.Or(c.MaxPods, defaultMaxPods)
	c.ContainerLogMaxSize = cmp.Or(c.ContainerLogMaxSize, defaultLogSize)
	c.ContainerLogMaxFiles = cmp.Or(c.ContainerLogMaxFiles, defaultLogFiles)
	c.ImageGCHigh = cmp.Or(c.ImageGCHigh, defaultHigh)
	c.ImageGCLow = cmp.Or(c.ImageGCLow, defaultLow)
	c.Version = cmp.Or(c.Version, defaultVersion)
	if c.EvictionHard == nil {
		c.EvictionHard = eviction.DefaultHard()
	}
	return c.reserveNamed()
}

// defaultPod returns the defaulting of the pods' row in the table of kinds; nil when it isn't linked in.
func defaultPod() func(*corev1.Pod) {
	for _, row := range api.Registered() {
		if row.Group == "" && row.Name == "pods" && row.Default != nil {
			return func(pod *corev1.Pod) { row.Default(pod) }
		}
	}
	return nil
}

// owner is the label's value of what belongs to this kubelet.
func (c *Config) owner() string { return c.Cluster + "_" + c.NodeName }

// hostIPs returns the node's addresses as text.
func (c *Config) hostIPs() []string {
	out := make([]string, len(c.NodeIPs))
	for i, ip := range c.NodeIPs {
		out[i] = ip.String()
	}
	return out
}

// reserved returns what the node keeps from pods: for Kubernetes, for the system and, if asked, for eviction to have room.
func (c *Config) reserved(capacity corev1.ResourceList, withEviction bool) corev1.ResourceList {
	out := corev1.ResourceList{}
	add := func(list corev1.ResourceList) {
		for name, q := range list {
			sum := out[name].DeepCopy()
			sum.Add(q)
			out[name] = sum
		}
	}
	add(c.KubeReserved)
	add(c.SystemReserved)
	if withEviction {
		add(eviction.Reservation(c.EvictionHard, capacity))
	}
	return out
}

func allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range capacity {
		left := q.DeepCopy()
		if r, ok := reserved[name]; ok {
			left.Sub(r)
			if left.Sign() < 0 {
				left = *resource.NewQuantity(0, q.Format)
			}
		}
		out[name] = left
	}
	return out
}

// makeDirs makes the kubelet's own directories.
func (c *Config) makeDirs() error {
	for dir, mode := range map[string]os.FileMode{c.RootDir: 0o750, c.LogDir: 0o755, filepath.Join(c.RootDir, "plugins"): 0o750, filepath.Join(c.RootDir, "plugins_registry"): 0o750} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make a directory of the kubelet: %w", err)
		}
	}
	if c.LogLinkDir != "" {
		if err := os.MkdirAll(c.LogLinkDir, 0o755); err != nil {
			return fmt.Errorf("make the folder of links to logs: %w", err)
		}
	}
	return nil
}
