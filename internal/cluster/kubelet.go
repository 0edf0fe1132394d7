package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet"
	"clipper.dev/clipper/internal/kubelet/eviction"
)

// kubeletIdentity is what the kubelet's HTTPS API shows, and whom it believes.
type kubeletIdentity struct {
	getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	clientCA       *x509.CertPool
}

func (n *node) openKubelet(c client.Client, id kubeletIdentity) (*kubelet.Kubelet, error) {
	l, o := n.layout, n.opts
	taints, err := parseTaints(o.NodeTaints)
	if err != nil {
		return nil, err
	}
	var thresholds map[eviction.Signal]eviction.Value // nil is Kubernetes' own
	if len(o.EvictionHard) > 0 {
		if thresholds, err = eviction.ParseThresholds(o.EvictionHard); err != nil {
			return nil, fmt.Errorf("--eviction-hard: %w", err)
		}
	}
	policies, err := o.policies()
	if err != nil {
		return nil, err
	}
	kubeReserved, err := parseReserved("--kube-reserved", o.KubeReserved)
	if err != nil {
		return nil, err
	}
	systemReserved, err := parseReserved("--system-reserved", o.SystemReserved)
	if err != nil {
		return nil, err
	}
	periods, err := o.Shutdown.periods()
	if err != nil {
		return nil, err
	}
	endpoint := o.RuntimeEndpoint
	var builtIn grpc.ClientConnInterface
	if n.runtime != nil {
		endpoint, builtIn = "unix://"+l.RuntimeSocket(), n.runtime.Conn()
	}
	k, err := kubelet.New(kubelet.Config{
		Cluster: l.Name, NodeName: o.NodeName, NodeIPs: []netip.Addr{n.ip}, Labels: o.NodeLabels, Taints: taints,
		Client: c, RuntimeEndpoint: endpoint, Runtime: builtIn, RootDir: l.KubeletDir(), LocalVolumeDir: l.VolumesDir(), LogDir: l.PodLogDir(), LogLinkDir: l.LogLinkDir(), NodeLogDir: l.LogDir,
		CgroupRoot: l.CgroupRoot, StaticPodPath: o.StaticPodPath,
		Listen: net.JoinHostPort("", strconv.Itoa(l.KubeletPort)),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: id.getCertificate, ClientAuth: tls.RequestClientCert, ClientCAs: id.clientCA,
			NextProtos: []string{"h2", "http/1.1"},
		},
		ClusterDNS: []string{l.ServiceIP(dnsServiceIP).String()}, ClusterDomain: clusterDomain,
		MaxPods: int(o.MaxPods), PodPIDsLimit: max(o.PodMaxPIDs, 0), ShutdownPeriods: periods, Version: KubernetesVersion, EvictionHard: thresholds,
		KubeReserved: kubeReserved, SystemReserved: systemReserved, Resources: policies,
		Logger: n.log.With("component", "kubelet"),
	})
	if err != nil {
		return nil, fmt.Errorf("open the kubelet: %w", err)
	}
	if err := offerFolders(l.KubeletDir(), wellKnownDir); err != nil {
		n.log.Warn("device plugins find the kubelet in its own folder only", "folder", l.KubeletDir(), "error", err)
	}
	return k, nil
}

// parseTaints reads key=value:Effect and key:Effect.
func parseTaints(all []string) ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, text := range all {
		name, effect, ok := strings.Cut(text, ":")
		key, value, _ := strings.Cut(name, "=")
		switch e := corev1.TaintEffect(effect); {
		case !ok || key == "":
			return nil, fmt.Errorf("--node-taints %q: write key=value:Effect", text)
		case e != corev1.TaintEffectNoSchedule && e != corev1.TaintEffectPreferNoSchedule && e != corev1.TaintEffectNoExecute:
			return nil, fmt.Errorf("--node-taints %q: the effect is NoSchedule, PreferNoSchedule or NoExecute", text)
		default:
			out = append(out, corev1.Taint{Key: key, Value: value, Effect: e})
		}
	}
	return out, nil
}

// nodeUser is whom a node acts as.
func nodeUser(name string) api.UserInfo {
	return api.UserInfo{Name: nodeUserPrefix + name, Groups: []string{user.NodesGroup, user.AllAuthenticated}}
}

// systemUser is a component by its user name, in the groups that such a user is in.
func systemUser(name string) api.UserInfo {
	u := api.UserInfo{Name: name, Groups: []string{user.AllAuthenticated}}
	if namespace, _, err := serviceaccount.SplitUsername(name); err == nil {
		u.Groups = append(serviceaccount.MakeGroupNames(namespace), u.Groups...)
	}
	return u
}
