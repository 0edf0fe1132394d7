package apiserver

import (
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
)

// plainMeta tells, for a fraction of what the library's expressions cost, that metadata is surely valid but for the name. Whatever it
// does not know to be valid is the library's to judge, whose words the errors are.
func plainMeta(m metav1.Object, namespaced bool) bool {
	if namespaced != (m.GetNamespace() != "") || namespaced && !plainLabel(m.GetNamespace()) {
		return false
	}
	return m.GetGeneration() >= 0 && len(m.GetFinalizers()) == 0 &&
		plainLabels(m.GetLabels()) && plainAnnotations(m.GetAnnotations()) && plainOwners(m.GetOwnerReferences()) && plainManagers(m.GetManagedFields())
}

// plainUpdate tells that an update changes nothing of metadata that it must not.
func plainUpdate(m, old metav1.Object) bool {
	created, before := m.GetCreationTimestamp(), old.GetCreationTimestamp()
	return m.GetName() == old.GetName() && m.GetNamespace() == old.GetNamespace() && m.GetUID() == old.GetUID() &&
		m.GetResourceVersion() != "" && m.GetGeneration() >= old.GetGeneration() && created.Equal(&before) &&
		m.GetDeletionTimestamp() == nil && old.GetDeletionTimestamp() == nil &&
		m.GetDeletionGracePeriodSeconds() == nil && old.GetDeletionGracePeriodSeconds() == nil
}

// plainNames tells that names follow a rule.
func plainNames(m metav1.Object, rule apivalidation.ValidateNameFunc) bool {
	name, base := m.GetName(), m.GetGenerateName()
	return name != "" && len(rule(name, false)) == 0 && (base == "" || len(rule(base, true)) == 0)
}

func plainLabels(labels map[string]string) bool {
	for k, v := range labels {
		if !plainKey(k) || v != "" && !plainText(v) {
			return false
		}
	}
	return true
}

func plainAnnotations(annotations map[string]string) bool {
	for k := range annotations {
		if !plainKey(k) {
			return false
		}
	}
	return apivalidation.ValidateAnnotationsSize(annotations) == nil
}

func plainOwners(owners []metav1.OwnerReference) bool {
	controllers := 0
	for i := range owners {
		o := &owners[i]
		group, version, grouped := strings.Cut(o.APIVersion, "/")
		if !grouped {
			version = group
		}
		if version == "" || strings.Contains(version, "/") || o.Kind == "" || o.Kind == "Event" || o.Name == "" || o.UID == "" {
			return false
		}
		if o.Controller != nil && *o.Controller {
			controllers++
		}
	}
	return controllers <= 1
}

func plainManagers(entries []metav1.ManagedFieldsEntry) bool {
	for i := range entries {
		e := &entries[i]
		if e.Operation != metav1.ManagedFieldsOperationApply && e.Operation != metav1.ManagedFieldsOperationUpdate || e.FieldsType != "FieldsV1" ||
			len(e.Manager) > metav1validation.FieldManagerMaxLength || len(e.Subresource) > metav1validation.MaxSubresourceNameLength {
			return false
		}
		for _, c := range []byte(e.Manager) {
			if c < ' ' || c > '~' {
				return false
			}
		}
	}
	return true
}

// plainKey tells a label's key.
func plainKey(key string) bool {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		return plainText(key)
	}
	return plainSubdomain(prefix) && plainText(name)
}

// plainText tells a label's value that is not empty, or the name in a key.
func plainText(s string) bool {
	if len(s) == 0 || len(s) > validation.LabelValueMaxLength || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func plainSubdomain(s string) bool {
	if len(s) > validation.DNS1123SubdomainMaxLength {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !plainLabel(label) {
			return false
		}
	}
	return true
}

// plainLabel tells a part of a domain.
func plainLabel(s string) bool {
	if len(s) == 0 || len(s) > validation.DNS1123LabelMaxLength || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'
}
