package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet"
)

// kubeletIdentity is what the kubelet's HTTPS API shows, and whom it believes.
type kubeletIdentity struct {
	getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	clientCA       *x509.CertPool
}

func (n *node) openKubelet(c client.Client, id kubeletIdentity) (*kubelet.Kubelet, error) {
	l, o := n.layout, n.opts
	n.prepareProcess(o.kubelet)
	var builtIn grpc.ClientConnInterface
	if n.runtime != nil {
		builtIn = n.runtime.Conn()
	}
	k, err := kubelet.New(kubelet.Config{
		Cluster: l.Name, NodeName: o.NodeName, NodeIPs: []netip.Addr{n.ip}, Labels: o.NodeLabels,
		Client: c, Runtime: builtIn, RootDir: l.KubeletDir(), LocalVolumeDir: l.VolumesDir(), LogLinkDir: l.logLinks(o.kubelet.PodLogsDir), NodeLogDir: l.LogDir,
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: id.getCertificate, ClientAuth: tls.RequestClientCert, ClientCAs: id.clientCA,
			NextProtos: []string{"h2", "http/1.1"},
		},
		Version: KubernetesVersion, Settings: o.kubelet, Metrics: n.metrics,
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
