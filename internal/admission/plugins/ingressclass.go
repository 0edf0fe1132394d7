package plugins

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/admission"
)

// DefaultIngressClass gives an Ingress without a class the default one.
type DefaultIngressClass struct {
	views *views
}

var _ admission.Mutator = (*DefaultIngressClass)(nil)

// Name implements admission.Plugin.
func (*DefaultIngressClass) Name() string { return "DefaultIngressClass" }

// Handles implements admission.Selective.
func (*DefaultIngressClass) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (p *DefaultIngressClass) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, networkingv1.GroupName, "ingresses", "") || r.Operation != admission.Create {
		return nil
	}
	ingress, ok := r.Object.(*networkingv1.Ingress)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("Expected Ingress resource, got: %v", r.Kind))
	}
	if _, annotated := ingress.Annotations["kubernetes.io/ingress.class"]; annotated || ingress.Spec.IngressClassName != nil {
		return nil
	}
	class, ok := newestDefault(p.views.ingressClasses.List("", nil), func(c *networkingv1.IngressClass) bool {
		return c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"
	})
	if ok {
		name := class.Name
		ingress.Spec.IngressClassName = &name
	}
	return nil
}
