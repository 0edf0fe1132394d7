package certificates

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// maxSignerName is a domain, a slash, and a label with a subdomain below it.
const maxSignerName = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2

// validateSignerName wants "domain/path".
func validateSignerName(at *field.Path, name string) check.Errors {
	var errs check.Errors
	if name == "" {
		errs.Required(at, "")
		return errs
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(path, "/") {
		errs.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return errs
	}
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs.Add(field.TooLong(at, "", validation.DNS1123SubdomainMaxLength))
	}
	labels := strings.Split(domain, ".")
	errs = append(errs, validateParts(at, domain, labels, validation.IsDNS1123Label)...)
	if len(labels) < 2 {
		errs.Invalid(at, domain, "should be a domain with at least two segments separated by dots")
	}
	errs = append(errs, validateParts(at, path, strings.Split(path, "."), validation.IsDNS1123Subdomain)...)
	if len(name) > maxSignerName {
		errs.Add(field.TooLong(at, "", maxSignerName))
	}
	return errs
}

// validateParts reports the first part that a rule refuses.
func validateParts(at *field.Path, whole string, parts []string, rule func(string) []string) check.Errors {
	var errs check.Errors
	for _, p := range parts {
		if msgs := rule(p); len(msgs) > 0 {
			for _, m := range msgs {
				errs.Invalid(at, whole, fmt.Sprintf("validating label %q: %s", p, m))
			}
			break
		}
	}
	return errs
}
