package bootstrap

import (
	_ "embed"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/pki"
)

//go:embed objects.json
var objectsJSON []byte

// Objects are the objects that every cluster has.
type Objects struct {
	Namespaces          []*corev1.Namespace                         `json:"-"`
	ClusterRoles        []*rbacv1.ClusterRole                       `json:"clusterroles"`
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding                `json:"clusterrolebindings"`
	Roles               []*rbacv1.Role                              `json:"roles"`
	RoleBindings        []*rbacv1.RoleBinding                       `json:"rolebindings"`
	PriorityClasses     []*schedulingv1.PriorityClass               `json:"priorityclasses"`
	FlowSchemas         []*flowcontrolv1.FlowSchema                 `json:"flowschemas"`
	PriorityLevels      []*flowcontrolv1.PriorityLevelConfiguration `json:"prioritylevelconfigurations"`
}

// SystemNamespaces are the namespaces that every cluster has.
var SystemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// Load returns new objects, which the caller may change.
func Load() (*Objects, error) {
	var o Objects
	if err := json.Unmarshal(objectsJSON, &o); err != nil {
		return nil, fmt.Errorf("read the bootstrap objects: %w", err)
	}
	for _, name := range SystemNamespaces {
		o.Namespaces = append(o.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	o.ClusterRoles = append(o.ClusterRoles, servingApprover())
	o.ClusterRoleBindings = append(o.ClusterRoleBindings, joining()...)
	return &o, nil
}

const servingApproverRole = "clipper:kubelet-serving-approver"

// servingApprover is the role of the controller that approves nodes' serving certificates, which upstream leaves to people.
func servingApprover() *rbacv1.ClusterRole {
	read := []string{"get", "list", "watch"}
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: servingApproverRole},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: read},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/approval"}, Verbs: []string{"update"}},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{"kubernetes.io/kubelet-serving"}, Verbs: []string{"approve"}},
			{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: read},
		},
	}
}

// joining are the bindings by which machines join, as kubeadm makes them under its own name: a join token lets its holder ask for a
// node's certificate, which is approved at once, and a node has its certificates renewed.
func joining() []*rbacv1.ClusterRoleBinding {
	bind := func(name, role, group string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "clipper:" + name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: group}},
		}
	}
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	return []*rbacv1.ClusterRoleBinding{
		bind("node-bootstrapper", "system:node-bootstrapper", pki.JoinGroup),
		bind("node-autoapprove-bootstrap", csr+"nodeclient", pki.JoinGroup),
		bind("node-autoapprove-certificate-rotation", csr+"selfnodeclient", "system:nodes"),
		{
			ObjectMeta: metav1.ObjectMeta{Name: servingApproverRole},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: servingApproverRole},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: "kubelet-serving-approver"}},
		},
	}
}
