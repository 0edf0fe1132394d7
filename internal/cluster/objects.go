package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/client"
)

// dnsServiceIP is the number of the DNS Service's address in the Service range, as kubeadm has it.
const dnsServiceIP = 10

// applySystemObjects makes the objects that depend on this cluster's addresses.
func applySystemObjects(ctx context.Context, c client.Client, p *controlPlane) error {
	if err := applyClusterInfo(ctx, c, p); err != nil {
		return err
	}
	if err := create(ctx, clusterRoleBindings, c, nodeProxierBinding()); err != nil {
		return err
	}
	if err := applyLocalPath(ctx, c); err != nil {
		return err
	}
	if err := create(ctx, clusterRoles, c, metricsReader()); err != nil {
		return err
	}
	if err := create(ctx, serviceCIDRs, c, serviceCIDR(p.opts.Layout)); err != nil {
		return err
	}
	if err := create(ctx, client.Services, c, dnsService(p.opts.Layout)); err != nil {
		return err
	}
	return p.rbac.WaitForBinding(ctx, "", nodeProxierBinding().Name)
}

var clusterRoleBindings = client.Kind[*rbacv1.ClusterRoleBinding]{GVR: rbacv1.SchemeGroupVersion.WithResource("clusterrolebindings")}

// nodeProxierBinding lets nodes be their own proxies: the proxy, DNS and the overlay have no identity but the node's.
func nodeProxierBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "clipper:node-proxier"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:node-proxier"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: user.NodesGroup}},
	}
}

var serviceCIDRs = client.Kind[*networkingv1.ServiceCIDR]{GVR: networkingv1.SchemeGroupVersion.WithResource("servicecidrs")}

// serviceCIDR is the default range of Services.
func serviceCIDR(l Layout) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{l.ServiceCIDR.String()}}}
}

// dnsService is the cluster DNS. It has no selector: every node answers at its address itself.
func dnsService(l Layout) *corev1.Service {
	ip := l.ServiceIP(dnsServiceIP).String()
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: "kube-dns",
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
}

// applyClusterInfo publishes what a machine needs to join: the server's address and its authority.
func applyClusterInfo(ctx context.Context, c client.Client, p *controlPlane) error {
	kubeconfig := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: https://%s\n    certificate-authority-data: %s\n",
		p.address(), base64PEM(p.keys.Authority().PEM()))
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: "cluster-info"},
		Data:       map[string]string{"kubeconfig": kubeconfig},
	}
	have, err := client.ConfigMaps.Get(ctx, c, want.Namespace, want.Name)
	if apierrors.IsNotFound(err) {
		return create(ctx, client.ConfigMaps, c, want)
	}
	if err != nil || have.Data["kubeconfig"] == kubeconfig {
		return err
	}
	changed := have.DeepCopy()
	if changed.Data == nil {
		changed.Data = map[string]string{}
	}
	changed.Data["kubeconfig"] = kubeconfig
	_, err = client.ConfigMaps.Update(ctx, c, changed)
	return err
}

// create makes an object unless it exists.
func create[T client.Object](ctx context.Context, kind client.Kind[T], c client.Client, obj T) error {
	if _, err := kind.Get(ctx, c, obj.GetNamespace(), obj.GetName()); !apierrors.IsNotFound(err) {
		return err
	}
	if _, err := kind.Create(ctx, c, obj); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s %s/%s: %w", kind.GVR.Resource, obj.GetNamespace(), obj.GetName(), err)
	}
	return nil
}
