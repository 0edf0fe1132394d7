package resource

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// maxQualifiedName is the length of the longest name of an attribute or capacity: domain, slash and identifier.
const maxQualifiedName = resourcev1.DeviceMaxDomainLength + 1 + resourcev1.DeviceMaxIDLength

func validateLabelName(name string, at *field.Path) (e check.Errors) {
	e.Label(at, name)
	return e
}

func validateClassName(name string, at *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(at, "")
		return e
	}
	e.Subdomain(at, name)
	return e
}

// validatePoolName requires subdomains joined by slashes.
func validatePoolName(name string, at *field.Path) (e check.Errors) {
	if name == "" {
		e.Required(at, "")
		return e
	}
	if len(name) > resourcev1.PoolNameMaxLength {
		e.TooLong(at, resourcev1.PoolNameMaxLength)
	}
	for part := range strings.SplitSeq(name, "/") {
		e.Subdomain(at, part)
	}
	return e
}

// validateQualifiedName requires an identifier, which may have a domain in front.
func validateQualifiedName(name string, at *field.Path) (e check.Errors) {
	domain, id, qualified := strings.Cut(name, "/")
	if !qualified {
		return validateIdentifier(name, at)
	}
	if strings.Contains(id, "/") {
		return nil // upstream lets several slashes pass
	}
	if domain == "" {
		e.Invalid(at, "", "the domain must not be empty")
	} else {
		e.Add(core.ValidateCSIDriverName(domain, at)...)
	}
	if id == "" {
		e.Invalid(at, "", "the name must not be empty")
		return e
	}
	e.Add(validateIdentifier(id, at)...)
	return e
}

// validateFullName requires an identifier with its domain.
func validateFullName(name resourcev1.FullyQualifiedName, at *field.Path) check.Errors {
	e := validateQualifiedName(string(name), at)
	if !strings.Contains(string(name), "/") {
		e.Invalid(at, name, "a fully qualified name must be a domain and a name separated by a slash")
	}
	return e
}

func validateIdentifier(id string, at *field.Path) (e check.Errors) {
	if len(id) > resourcev1.DeviceMaxIDLength {
		e.TooLong(at, resourcev1.DeviceMaxIDLength)
	}
	e.Messages(at, id, validation.IsCIdentifier(id))
	return e
}

func validateUID(uid string, at *field.Path) (e check.Errors) {
	if err := uuid.Validate(uid); err != nil {
		e.Invalid(at, uid, fmt.Sprintf("error validating uid: %v", err))
	} else if len(uid) != 36 || uid != strings.ToLower(uid) {
		e.Invalid(at, uid, "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters")
	}
	return e
}
