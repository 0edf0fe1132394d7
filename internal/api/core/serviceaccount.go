package core

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

// ServiceAccounts is the row of core/v1 ServiceAccount.
var ServiceAccounts = api.Register(&api.Resource{
	Name:         "serviceaccounts",
	Singular:     "serviceaccount",
	Kind:         "ServiceAccount",
	ShortNames:   []string{"sa"},
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[corev1.ServiceAccount, corev1.ServiceAccountList]("v1")},
	Prefix:       "serviceaccounts",

	PrepareCreate:            api.On(cleanSecretReferences),
	PrepareUpdate:            api.OnUpdate(func(n, _ *corev1.ServiceAccount) { cleanSecretReferences(n) }),
	Warnings:                 api.Warn(mountableSecretsWarning),
	NameRule:                 apivalidation.ValidateServiceAccountName,
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.AgeColumn},
	Cells: api.Print(func(sa *corev1.ServiceAccount, p api.PrintOptions) []any {
		return []any{sa.Name, api.Age(sa.CreationTimestamp, p)}
	}),
	Subresources: []api.Subresource{tokenSubresource},
})

const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// cleanSecretReferences keeps the names alone.
func cleanSecretReferences(sa *corev1.ServiceAccount) {
	for i, ref := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}

func mountableSecretsWarning(sa, old *corev1.ServiceAccount) []string {
	if old != nil {
		if _, before := old.Annotations[enforceMountableSecrets]; before {
			return nil
		}
	}
	if _, now := sa.Annotations[enforceMountableSecrets]; !now {
		return nil
	}
	return []string{"metadata.annotations[" + enforceMountableSecrets + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
}
