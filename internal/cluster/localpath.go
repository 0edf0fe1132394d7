package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/localpath"
)

var clusterRoles = client.Kind[*rbacv1.ClusterRole]{GVR: rbacv1.SchemeGroupVersion.WithResource("clusterroles")}

// localPathName names the storage class of local volumes; provisionerName its provisioner's role and account.
const (
	localPathName   = "local-path"
	provisionerName = "local-path-provisioner"
)

// applyLocalPath makes the default storage class, and lets its provisioner work. The class is made on a fresh cluster alone, which is one
// without the provisioner's binding: who has deleted it, or made another the default, has decided.
func applyLocalPath(ctx context.Context, c client.Client) error {
	binding := localPathBinding()
	if _, err := clusterRoleBindings.Get(ctx, c, "", binding.Name); !apierrors.IsNotFound(err) {
		return err
	}
	if err := create(ctx, client.StorageClasses, c, localPathClass()); err != nil {
		return err
	}
	if err := create(ctx, clusterRoles, c, localPathRole()); err != nil {
		return err
	}
	return create(ctx, clusterRoleBindings, c, binding)
}

func localPathClass() *storagev1.StorageClass {
	mode, policy, grows := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete, true
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: localPathName, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: localpath.Provisioner, VolumeBindingMode: &mode, ReclaimPolicy: &policy, AllowVolumeExpansion: &grows,
	}
}

func localPathRole() *rbacv1.ClusterRole {
	rule := func(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "clipper:" + provisionerName},
		Rules: []rbacv1.PolicyRule{
			rule("", []string{"persistentvolumes"}, "get", "list", "watch", "create", "update", "delete"),
			rule("", []string{"persistentvolumeclaims"}, "get", "list", "watch", "update"),
			rule("", []string{"persistentvolumeclaims/status"}, "update"),
			rule("", []string{"nodes"}, "get", "list", "watch", "update"),
			rule(storagev1.GroupName, []string{"storageclasses"}, "get", "list", "watch"),
			rule("", []string{"events"}, "create", "patch", "update"),
			rule("events.k8s.io", []string{"events"}, "create", "patch", "update"),
		},
	}
}

func localPathBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "clipper:" + provisionerName},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "clipper:" + provisionerName},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: provisionerName}},
	}
}
