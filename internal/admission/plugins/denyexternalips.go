package plugins

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/admission"
)

// DenyServiceExternalIPs lets no Service take external addresses that it has not already. It is off by default.
type DenyServiceExternalIPs struct{}

var _ admission.Validator = DenyServiceExternalIPs{}

// Name implements admission.Plugin.
func (DenyServiceExternalIPs) Name() string { return "DenyServiceExternalIPs" }

// Validate implements admission.Validator.
func (DenyServiceExternalIPs) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "services", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	service, err := as[*corev1.Service](r, r.Object)
	if err != nil {
		return err
	}
	var had []string
	if old, ok := r.OldObject.(*corev1.Service); ok && r.Operation == admission.Update {
		had = old.Spec.ExternalIPs
	}
	for _, ip := range service.Spec.ExternalIPs {
		if !slices.Contains(had, ip) {
			return forbidf(r, "Use of external IPs is denied by admission control")
		}
	}
	return nil
}
