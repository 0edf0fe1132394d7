package core

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api/check"
)

// claimOptions say where the validation of a claim bends for what it has already.
type claimOptions struct {
	badSelectorValue bool
	badSourceGroup   bool
}

// accessModes are in alphabetical order.
var accessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}

func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path) (e check.Errors) {
	alone, others := false, false
	for _, m := range modes {
		check.OneOf(&e, path, m, accessModes...)
		if m == corev1.ReadWriteOncePod {
			alone = true
		} else if slices.Contains(accessModes, m) {
			others = true
		}
	}
	if alone && others {
		e.Forbidden(path, "may not use ReadWriteOncePod with other access modes")
	}
	return e
}

func validateClaimSpec(s *corev1.PersistentVolumeClaimSpec, path *field.Path, opts claimOptions) (e check.Errors) {
	modes := path.Child("accessModes")
	if len(s.AccessModes) == 0 {
		e.Required(modes, "at least 1 access mode is required")
	}
	if s.Selector != nil {
		bend := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: opts.badSelectorValue}
		e.Add(metav1validation.ValidateLabelSelector(s.Selector, bend, path.Child("selector"))...)
	}
	e.Add(validateAccessModes(s.AccessModes, modes)...)
	storage := path.Child("resources").Key(string(corev1.ResourceStorage))
	if size, there := s.Resources.Requests[corev1.ResourceStorage]; !there {
		e.Required(storage, "")
	} else if errs := ValidatePositiveQuantity(size, storage); len(errs) > 0 {
		e.Add(errs...)
	} else {
		e.Add(validateQuantity(corev1.ResourceStorage, size, storage)...)
	}
	class := func(name string, value *string) {
		if value != nil && *value != "" {
			e.Messages(path.Child(name), *value, apivalidation.NameIsDNSSubdomain(*value, false))
		}
	}
	class("storageClassName", s.StorageClassName)
	if s.VolumeMode != nil {
		check.OneOf(&e, path.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	e.Add(validateDataSources(s, path, opts)...)
	class("volumeAttributesClassName", s.VolumeAttributesClassName)
	return e
}

func validateDataSources(s *corev1.PersistentVolumeClaimSpec, path *field.Path, opts claimOptions) (e check.Errors) {
	source := func(name, kind string, group *string, at *field.Path) {
		e.NonEmpty(at.Child("name"), name)
		e.NonEmpty(at.Child("kind"), kind)
		g := ptr.Deref(group, "")
		if g == "" && kind != "PersistentVolumeClaim" {
			e.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
		}
		if g != "" && !opts.badSourceGroup {
			e.Messages(at.Child("apiGroup"), g, validation.IsDNS1123Subdomain(g))
		}
	}
	if d := s.DataSource; d != nil {
		source(d.Name, d.Kind, d.APIGroup, path.Child("dataSource"))
	}
	r := s.DataSourceRef
	if r == nil {
		return e
	}
	at := path.Child("dataSourceRef")
	source(r.Name, r.Kind, r.APIGroup, at)
	elsewhere := r.Namespace != nil && *r.Namespace != ""
	if elsewhere {
		e.Messages(at.Child("namespace"), *r.Namespace, apivalidation.ValidateNamespaceName(*r.Namespace, false))
	}
	d := s.DataSource
	switch {
	case d == nil:
	case elsewhere:
		e.Invalid(path, path.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified")
	case !ptr.Equal(d.APIGroup, r.APIGroup) || d.Kind != r.Kind || d.Name != r.Name:
		e.Invalid(path, path.Child("dataSource"), "must match dataSourceRef")
	}
	return e
}

// ValidateClaimTemplate checks the claim that a StatefulSet makes for each of its pods, beyond its metadata.
func ValidateClaimTemplate(c *corev1.PersistentVolumeClaim, path *field.Path) check.Errors {
	return validateClaimSpec(&c.Spec, path.Child("spec"), claimOptions{})
}

// ClaimTemplateWarnings warns of such a claim's fields.
func ClaimTemplateWarnings(c *corev1.PersistentVolumeClaim, path *field.Path) []string {
	w := &warner{}
	w.claim(&c.Spec, path)
	return w.texts
}
