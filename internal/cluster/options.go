package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/controller/legacytokencleaner"
	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// ServerOptions say how a server runs.
type ServerOptions struct {
	Layout   Layout
	Keeper   io.ReadSeeker // the keeper's executable, nil if there is none
	Logger   *slog.Logger
	Progress *Progress

	NodeOptions
	WhoMayOptions
	AtRestOptions
	ServingOptions
	AdmissionOptions
	// ExtraSANs are further names and addresses for the API server's certificate.
	ExtraSANs []string
	// EtcdEndpoints use an outside etcd instead of the embedded one.
	EtcdEndpoints []string
	EtcdCAFile    string
	EtcdCertFile  string
	EtcdKeyFile   string
	// MaxInFlight and MaxMutatingInFlight are, in sum, the requests that are served at once.
	MaxInFlight, MaxMutatingInFlight int
	// LegacyTokenPeriod is how long a service account's token in a Secret may be unused before it is removed.
	LegacyTokenPeriod time.Duration
	// KubeletCAFile has further authorities of kubelets' serving certificates, for nodes whose tlsCertFile names one of their own.
	KubeletCAFile string
	// Audit says which requests are recorded, and where.
	Audit audit.Options
	// NoNode runs the control plane alone.
	NoNode bool
	// APIOnly runs the API server alone, without controllers, scheduler and node.
	APIOnly bool
}

// NodeOptions say how a node runs, on a server or by itself.
type NodeOptions struct {
	NodeName        string
	NodeIP          string
	NodeLabels      map[string]string
	RuntimeEndpoint string   // another CRI runtime's socket; "" is the built-in one
	CNIConfDir      string   // CNI configurations that replace the built-in pod network; "" is the built-in one
	CNIBinDirs      []string // where their plugins are
	RegistryConfig  string   // registries' mirrors and credentials
	LogLevel        string

	KubeletOptions
	kubelet *kubeletconfig.KubeletConfiguration // as it is in effect, once complete
}

// AgentOptions say how a node joins and runs.
type AgentOptions struct {
	Layout   Layout
	Keeper   io.ReadSeeker
	Logger   *slog.Logger
	Progress *Progress

	NodeOptions
	Server string // https://host:port
	Token  string // needed for the first start only
	// Node is the number of a further node on the server's own machine; 0 is a machine of its own.
	Node int
}

// AddFlags adds the options' flags.
func (o *ServerOptions) AddFlags(f *pflag.FlagSet) {
	o.NodeOptions.addFlags(f)
	o.WhoMayOptions.addFlags(f)
	o.AtRestOptions.addFlags(f)
	o.ServingOptions.addFlags(f)
	o.AdmissionOptions.addFlags(f)
	f.StringSliceVar(&o.ExtraSANs, "tls-san", nil, "further names and addresses for the API server's certificate")
	f.StringSliceVar(&o.EtcdEndpoints, "etcd-endpoints", nil, "use this outside etcd instead of the embedded one")
	f.StringVar(&o.EtcdCAFile, "etcd-cafile", "", "authority of the outside etcd")
	f.StringVar(&o.EtcdCertFile, "etcd-certfile", "", "client certificate for the outside etcd")
	f.StringVar(&o.EtcdKeyFile, "etcd-keyfile", "", "key of that certificate")
	f.IntVar(&o.MaxInFlight, "max-requests-inflight", 400, "with --max-mutating-requests-inflight: how many requests are served at once, shared by priority")
	f.IntVar(&o.MaxMutatingInFlight, "max-mutating-requests-inflight", 200, "with --max-requests-inflight: how many requests are served at once, shared by priority")
	f.DurationVar(&o.LegacyTokenPeriod, "legacy-service-account-token-clean-up-period", legacytokencleaner.DefaultPeriod, "how long a token that Kubernetes once made in a Secret may be unused before it is marked as invalid, and after that deleted")
	f.StringVar(&o.KubeletCAFile, "kubelet-certificate-authority", "", "file with further authorities of kubelets' certificates, for nodes whose tlsCertFile is not the cluster's")
	addAuditFlags(f, &o.Audit)
	f.BoolVar(&o.NoNode, "no-node", false, "run the control plane alone, without a node")
	f.BoolVar(&o.APIOnly, "api-only", false, "run the API server alone, without controllers, scheduler and node")
}

// validate refuses what can't be done before anything is touched.
func (o *ServerOptions) validate() error {
	_, err := o.AdmissionOptions.plugins()
	return errors.Join(o.ServingOptions.validate(), err)
}

// shown are the flags for whoever looks into the server. None of a server's is a secret.
func (o *ServerOptions) shown() map[string]string {
	out := map[string]string{}
	if o.flags != nil {
		o.flags.VisitAll(func(f *pflag.Flag) { out[f.Name] = f.Value.String() })
	}
	return out
}

// AddFlags adds the options' flags.
func (o *AgentOptions) AddFlags(f *pflag.FlagSet) {
	o.NodeOptions.addFlags(f)
	f.StringVar(&o.Server, "server", "", "URL of the server to join: https://host:port")
	f.StringVar(&o.Token, "token", "", "token to join with, from \"clipper token create\"; needed at the first start")
	f.IntVar(&o.Node, "node", 0, "number of a further node on the server's own machine; \"clipper up --nodes\" uses it")
}

func (o *NodeOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.NodeName, "node-name", "", "name of the node (default: the host's)")
	f.StringVar(&o.NodeIP, "node-ip", "", "address of the node (default: that of the default route)")
	f.StringToStringVar(&o.NodeLabels, "node-labels", nil, "labels of the node at registration")
	f.StringVar(&o.RuntimeEndpoint, "container-runtime-endpoint", "", "socket of another CRI runtime (default: the built-in one)")
	f.StringVar(&o.CNIConfDir, "cni-conf-dir", "", "folder of CNI configurations to use instead of the built-in pod network")
	f.StringSliceVar(&o.CNIBinDirs, "cni-bin-dir", []string{"/opt/cni/bin"}, "folders of CNI plugins")
	f.StringVar(&o.RegistryConfig, "registry-config", "", "file with registries' mirrors and credentials")
	o.KubeletOptions.addFlags(f)
	f.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// NodeName is the name of node n of this machine: the host's, with a number from the second on.
func NodeName(n int) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host = strings.ToLower(host)
	if n > 1 {
		host += "-" + strconv.Itoa(n)
	}
	return host
}

// complete fills in what follows from the machine and from files, into the layout too.
func (o *NodeOptions) complete(l *Layout, n int) (_ netip.Addr, err error) {
	if o.NodeName == "" {
		o.NodeName = NodeName(n)
	}
	if o.kubelet, err = o.settings(*l); err != nil {
		return netip.Addr{}, err
	}
	if err := o.check(); err != nil {
		return netip.Addr{}, err
	}
	if err := l.place(o.RootDir, o.kubelet); err != nil {
		return netip.Addr{}, err
	}
	if o.NodeIP == "" {
		return defaultNodeIP()
	}
	ip, err := netip.ParseAddr(o.NodeIP)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("--node-ip %q: use the address that the node has on this machine", o.NodeIP)
	}
	return ip, nil
}

// check refuses what the API would refuse when the node registers.
func (o *NodeOptions) check() error {
	if problems := validation.IsDNS1123Subdomain(o.NodeName); len(problems) > 0 {
		return fmt.Errorf("--node-name %q: %s", o.NodeName, problems[0])
	}
	if path := strings.TrimPrefix(o.RuntimeEndpoint, "unix://"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("--container-runtime-endpoint: no runtime serves there: %w", err)
		}
	}
	for key, value := range o.NodeLabels {
		if problems := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)); len(problems) > 0 {
			return fmt.Errorf("--node-labels %s=%s: %s", key, value, problems[0])
		}
	}
	return nil
}
