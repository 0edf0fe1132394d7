package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// The projections of trust bundles and of certificates for pods are behind feature gates that are off: they are dropped from what
// is written, and validated only where an object has them already.

func validateTrustBundleProjection(b *corev1.ClusterTrustBundleProjection, path *field.Path) (e check.Errors) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		e.Invalid(path, b, "only one of name and signerName may be used")
	case b.Name != nil:
		e.NonEmptyf(path.Child("name"), *b.Name, "must be a valid object name")
		for _, msg := range trustBundleName(*b.Name) {
			e.Invalid(path.Child("name"), *b.Name, fmt.Sprintf("not a valid clustertrustbundlename: %v", msg))
		}
		if b.LabelSelector != nil {
			e.Invalid(path.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case b.SignerName != nil:
		e.NonEmptyf(path.Child("signerName"), *b.SignerName, "must be a valid signer name")
		e.Add(ValidateSignerName(*b.SignerName, path.Child("signerName"))...)
		e.Add(metav1validation.ValidateLabelSelector(b.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, path.Child("labelSelector"))...)
	default:
		e.Required(path, "either name or signerName must be specified")
	}
	e.NonEmpty(path.Child("path"), b.Path)
	e.Add(validateNonReserved(b.Path, path.Child("path"))...)
	return e
}

// trustBundleName checks a name of the form signer:domain:rest, or a plain one.
func trustBundleName(name string) []string {
	before, rest, found := strings.Cut(name, ":")
	if !found {
		return apivalidation.NameIsDNSSubdomain(name, false)
	}
	if i := strings.LastIndex(rest, ":"); i >= 0 {
		before, rest = before+":"+rest[:i], rest[i+1:]
	}
	prefix := strings.ReplaceAll(before, ":", "/")
	if prefix == "" {
		return []string{"ClusterTrustBundle with a signerName must be prefixed by the signer's name"}
	}
	return apivalidation.NameIsDNSSubdomain(rest, false)
}

// ValidateSignerName requires the form domain/path of a certificate signer.
func ValidateSignerName(name string, path *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(path, "")
		return e
	}
	parts := strings.Split(name, "/")
	if len(parts) != 2 {
		e.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return e
	}
	domain, rest := parts[0], parts[1]
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		e.TooLong(path, validation.DNS1123SubdomainMaxLength)
	}
	first := func(labels []string, of string, rule func(string) []string) {
		for _, label := range labels {
			if msgs := rule(label); len(msgs) > 0 {
				for _, msg := range msgs {
					e.Invalidf(path, of, "validating label %q: %s", label, msg)
				}
				return
			}
		}
	}
	labels := strings.Split(domain, ".")
	first(labels, domain, validation.IsDNS1123Label)
	if len(labels) < 2 {
		e.Invalid(path, domain, "should be a domain with at least two segments separated by dots")
	}
	first(strings.Split(rest, "."), rest, validation.IsDNS1123Subdomain)
	if len(name) > maxSignerName {
		e.TooLong(path, maxSignerName)
	}
	return e
}

// maxSignerName is a domain, a slash, and a path as long as a namespace and a name.
const maxSignerName = validation.DNS1123SubdomainMaxLength + 1 + validation.DNS1123SubdomainMaxLength + 1 + validation.DNS1123LabelMaxLength

var keyTypes = []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"}

const (
	minCertificateSeconds           = 3600
	maxCertificateSeconds           = 91 * 24 * 60 * 60
	maxKubernetesCertificateSeconds = 24 * 60 * 60
)

func validatePodCertificate(c *corev1.PodCertificateProjection, path *field.Path, take func(string, any)) (e check.Errors) {
	e.Add(ValidateSignerName(c.SignerName, path.Child("signerName"))...)
	if c.UserAnnotations != nil {
		for key := range c.UserAnnotations {
			e.Add(validation.IsDomainPrefixedKey(path.Child("userAnnotations"), strings.ToLower(key))...)
		}
		if apivalidation.ValidateAnnotationsSize(c.UserAnnotations) != nil {
			e.TooLong(path.Child("userAnnotations"), apivalidation.TotalAnnotationSizeLimitB)
		}
	}
	if !slices.Contains(keyTypes, c.KeyType) {
		e.Add(field.NotSupported(path.Child("keyType"), c.KeyType, keyTypes))
	}
	if seconds := c.MaxExpirationSeconds; seconds != nil {
		at, limit := path.Child("maxExpirationSeconds"), int32(maxCertificateSeconds)
		if strings.HasPrefix(c.SignerName, "kubernetes.io/") {
			limit = maxKubernetesCertificateSeconds
		}
		if *seconds < minCertificateSeconds {
			e.Invalid(at, *seconds, "if provided, maxExpirationSeconds must be >= 3600")
		}
		if *seconds > limit {
			e.Invalidf(at, *seconds, "if provided, maxExpirationSeconds must be <= %d", limit)
		}
	}
	some := false
	for _, p := range []struct{ name, value string }{
		{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
	} {
		if p.value != "" {
			some = true
			e.Add(validateNonReserved(p.value, path.Child(p.name))...)
			take(p.value, p.value)
		}
	}
	if !some {
		e.Required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
	return e
}
