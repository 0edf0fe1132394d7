package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// NamespaceAutoProvision makes the namespace that an object is created in. It is off by default.
type NamespaceAutoProvision struct {
	client client.Client
	views  *views
}

var _ admission.Mutator = (*NamespaceAutoProvision)(nil)

// Name implements admission.Plugin.
func (*NamespaceAutoProvision) Name() string { return "NamespaceAutoProvision" }

// Admit implements admission.Mutator.
func (p *NamespaceAutoProvision) Admit(ctx context.Context, r *admission.Request) error {
	if r.Operation != admission.Create || r.DryRun || r.Namespace == "" || r.Kind.GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() {
		return nil
	}
	if _, ok := p.views.namespaces.Get("", r.Namespace); ok {
		return nil
	}
	_, err := client.Namespaces.Create(ctx, p.client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return forbid(r, err)
	}
	return nil
}

// NamespaceExists refuses what is done in namespaces that don't exist, deletions included. It is off by default.
type NamespaceExists struct {
	client client.Client
	views  *views
}

var _ admission.Validator = (*NamespaceExists)(nil)

// Name implements admission.Plugin.
func (*NamespaceExists) Name() string { return "NamespaceExists" }

// Validate implements admission.Validator.
func (p *NamespaceExists) Validate(ctx context.Context, r *admission.Request) error {
	if r.Operation == admission.Connect || r.Namespace == "" || r.Kind.GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() {
		return nil
	}
	if _, ok := p.views.namespaces.Get("", r.Namespace); ok {
		return nil
	}
	if _, err := client.Namespaces.Get(ctx, p.client, "", r.Namespace); err != nil {
		if apierrors.IsNotFound(err) {
			return err
		}
		return apierrors.NewInternalError(err)
	}
	return nil
}
