package check

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The texts that several kinds share.
const (
	Negative    = "must be greater than or equal to 0"
	NotPositive = "must be greater than zero"
	Immutable   = "field is immutable"
	// OneVolumeType and OneHandlerType refuse the second member of a union.
	OneVolumeType  = "may not specify more than 1 volume type"
	OneHandlerType = "may not specify more than 1 handler type"
)

// Errors collects field errors. Its zero value is empty and ready.
type Errors field.ErrorList

// Add appends the errors of another list.
func (e *Errors) Add(more ...*field.Error) { *e = append(*e, more...) }

// Invalid adds one error about a value.
func (e *Errors) Invalid(path *field.Path, value any, detail string) {
	*e = append(*e, field.Invalid(path, value, detail))
}

// Invalidf is Invalid with a formatted detail.
func (e *Errors) Invalidf(path *field.Path, value any, format string, args ...any) {
	e.Invalid(path, value, fmt.Sprintf(format, args...))
}

// Messages adds one error for each message, as the functions of apimachinery's validation package return them.
func (e *Errors) Messages(path *field.Path, value any, messages []string) {
	for _, m := range messages {
		e.Invalid(path, value, m)
	}
}

// Required adds an error about an absent value.
func (e *Errors) Required(path *field.Path, detail string) {
	*e = append(*e, field.Required(path, detail))
}

// Forbidden adds an error about a value that may not be there.
func (e *Errors) Forbidden(path *field.Path, detail string) {
	*e = append(*e, field.Forbidden(path, detail))
}

// Duplicate adds an error about a value seen before.
func (e *Errors) Duplicate(path *field.Path, value any) {
	*e = append(*e, field.Duplicate(path, value))
}

// NotFound adds an error about a reference to nothing.
func (e *Errors) NotFound(path *field.Path, value any) {
	*e = append(*e, field.NotFound(path, value))
}

// TooLong adds an error about a value of more than max bytes.
func (e *Errors) TooLong(path *field.Path, max int) {
	*e = append(*e, field.TooLong(path, "", max))
}

// TooMany adds an error about a list of more than max entries.
func (e *Errors) TooMany(path *field.Path, actual, max int) {
	*e = append(*e, field.TooMany(path, actual, max))
}

// Internal adds an error that is the server's.
func (e *Errors) Internal(path *field.Path, err error) {
	*e = append(*e, field.InternalError(path, err))
}

// NonEmpty requires a string.
func (e *Errors) NonEmpty(path *field.Path, value string) {
	if value == "" {
		e.Required(path, "")
	}
}

// NonNegative requires a number of at least 0.
func (e *Errors) NonNegative(path *field.Path, n int64) {
	if n < 0 {
		e.Invalid(path, n, Negative)
	}
}

// Positive requires a number of at least 1.
func (e *Errors) Positive(path *field.Path, n int64) {
	if n <= 0 {
		e.Invalid(path, n, NotPositive)
	}
}

// Unchanged requires that an update left a field as it was.
func (e *Errors) Unchanged(path *field.Path, new, old any) {
	if !equality.Semantic.DeepEqual(new, old) {
		e.Invalid(path, new, Immutable)
	}
}

// Label requires a DNS-1123 label.
func (e *Errors) Label(path *field.Path, value string) {
	e.Messages(path, value, validation.IsDNS1123Label(value))
}

// Subdomain requires a DNS-1123 subdomain.
func (e *Errors) Subdomain(path *field.Path, value string) {
	e.Messages(path, value, validation.IsDNS1123Subdomain(value))
}

// Qualified requires a qualified name: an optional DNS prefix, a slash and a name.
func (e *Errors) Qualified(path *field.Path, value string) {
	e.Messages(path, value, validation.IsQualifiedName(value))
}

// Port requires a port number.
func (e *Errors) Port(path *field.Path, port int32) {
	e.Messages(path, port, validation.IsValidPortNum(int(port)))
}

// IP requires an IP address; old values that are looser than today's rule are tolerated.
func (e *Errors) IP(path *field.Path, ip string, old sets.Set[string]) {
	if !old.Has(ip) {
		e.Add(validation.IsValidIPForLegacyField(path, ip, true, nil)...)
	}
}

// CIDR requires an address block; old values that are looser than today's rule are tolerated.
func (e *Errors) CIDR(path *field.Path, cidr string, old sets.Set[string]) {
	if !old.Has(cidr) {
		e.Add(validation.IsValidCIDRForLegacyField(path, cidr, true, nil)...)
	}
}

// OneOf adds an error unless the value is among the supported ones, which are named in the order given.
func OneOf[T ~string](e *Errors, path *field.Path, value T, supported ...T) {
	if !slices.Contains(supported, value) {
		e.Add(field.NotSupported(path, value, supported))
	}
}

// Enum is OneOf for a value that must be present: its absence is reported as such.
func Enum[T ~string](e *Errors, path *field.Path, value T, supported ...T) {
	if value == "" {
		e.Required(path, "")
		return
	}
	OneOf(e, path, value, supported...)
}

// NonEmptyf is NonEmpty with an explanation.
func (e *Errors) NonEmptyf(path *field.Path, value, detail string) {
	if value == "" {
		e.Required(path, detail)
	}
}

// LongName is the rule of kinds whose names upstream validates by a declaration: subdomains, in its words. It doesn't look at generateName.
func LongName(name string, prefix bool) []string {
	if prefix {
		return nil
	}
	return content.IsDNS1123Subdomain(name)
}
