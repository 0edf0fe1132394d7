package kubelet

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/cri"
	"clipper.dev/clipper/internal/kubelet/eviction"
	"clipper.dev/clipper/internal/reload"
)

// Config is what a kubelet is made from.
type Config struct {
	// Cluster names the cluster, so that several on one machine and one runtime leave each other alone. Required.
	Cluster string
	// NodeName is the name of the Node object. Required.
	NodeName string
	// NodeIPs are the node's addresses, the primary one first; at most one for each family. Required.
	NodeIPs []netip.Addr
	// Labels are set when the Node is registered.
	Labels map[string]string

	// Client reads and writes the API as system:node:<NodeName>. Required.
	Client client.Client
	// Runtime is a connection to a runtime in this process, which makes no use of a socket; nil connects to the one that Settings name.
	Runtime grpc.ClientConnInterface
	// RootDir holds the pods' volumes, and the sockets by which plugins and the kubelet find each other. Required.
	RootDir string
	// LocalVolumeDir holds the volumes that the built-in provisioner makes for this node; "" is none.
	LocalVolumeDir string
	// LogLinkDir gets links to the containers' logs, by the names that collectors of logs expect; "" is none.
	LogLinkDir string
	// NodeLogDir is what /logs/ serves; "" serves nothing.
	NodeLogDir string
	// DefaultPod fills in a static pod's absent fields as the API does; nil is the table of kinds.
	DefaultPod func(*corev1.Pod)
	// TLS is the API's server certificate and, for clients that show certificates, their authority. Settings may name others. Without it there is no HTTPS API.
	TLS *tls.Config
	// Version is reported as the kubelet's; "" is v1.36.3.
	Version string

	// Metrics is where the kubelet registers what it counts, and what its API shows at /metrics: others of the node's may be there too. nil is a new one.
	Metrics *prometheus.Registry

	// Settings are everything else, complete and checked: what configuration.Given.Complete returns. Required.
	Settings *kubeletconfig.KubeletConfiguration

	// Logger is required.
	Logger *slog.Logger

	parsed    parsed                // of Settings
	clientCAs func() *x509.CertPool // of the moment; nil: TLS's
	followed  []*reload.File
}

const defaultVersion = "v1.36.3"

// connectRuntime connects to the runtime that is configured.
func (c *Config) connectRuntime(m *cri.Metrics) (*cri.Client, error) {
	patience := c.Settings.RuntimeRequestTimeout.Duration
	if c.Runtime != nil {
		return cri.New(c.Runtime, c.owner(), patience, m, c.Logger), nil
	}
	return cri.Dial(c.Settings.ContainerRuntimeEndpoint, c.owner(), patience, m, c.Logger)
}

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	var missing []error
	for name, value := range map[string]string{"Cluster": c.Cluster, "NodeName": c.NodeName, "RootDir": c.RootDir} {
		if value == "" {
			missing = append(missing, fmt.Errorf("kubelet configuration: %s is required", name))
		}
	}
	if c.Client == nil || c.Logger == nil || len(c.NodeIPs) == 0 || c.Settings == nil {
		missing = append(missing, errors.New("kubelet configuration: Client, Settings, Logger and NodeIPs are required"))
		return errors.Join(missing...)
	}
	if c.Settings.StaticPodPath != "" && c.DefaultPod == nil {
		if c.DefaultPod = defaultPod(); c.DefaultPod == nil {
			missing = append(missing, errors.New("kubelet configuration: staticPodPath needs DefaultPod"))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return err
	}
	var err error
	if c.RootDir, err = filepath.Abs(c.RootDir); err != nil {
		return fmt.Errorf("kubelet configuration: RootDir: %w", err)
	}
	c.Version = cmp.Or(c.Version, defaultVersion)
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if err := c.parse(); err != nil {
		return fmt.Errorf("kubelet configuration: %w", err)
	}
	if c.TLS != nil {
		if err := c.serverTLS(); err != nil {
			return err
		}
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
	add(c.parsed.kubeReserved)
	add(c.parsed.systemReserved)
	if withEviction {
		add(eviction.Reservation(c.parsed.evictionHard, capacity))
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
	for dir, mode := range map[string]os.FileMode{c.RootDir: 0o750, c.Settings.PodLogsDir: 0o755, filepath.Join(c.RootDir, "plugins"): 0o750, filepath.Join(c.RootDir, "plugins_registry"): 0o750} {
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
