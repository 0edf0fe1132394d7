package negotiate

import (
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NotAcceptable is upstream's answer to an Accept header that asks for nothing that is served.
func NotAcceptable(k Kind) error {
	if k == Streams {
		return NotAcceptableFor(streams...)
	}
	return NotAcceptableFor(accepted...)
}

// NotAcceptableFor is NotAcceptable where other types are served than objects have.
func NotAcceptableFor(types ...string) error {
	return failure(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(types, ", "))
}

// Unrouted is upstream's answer to an Accept header that names none of the types that a path has, before any of them is looked at.
func Unrouted(lists bool) error {
	types := accepted
	if lists {
		types = append(slices.Clone(accepted), streams...)
	}
	return UnroutedTo(types...)
}

// UnroutedTo is Unrouted for a path that has other types than objects have.
func UnroutedTo(types ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Details: &metav1.StatusDetails{},
		Message: "406: Not Acceptable\n\nAvailable representations: " + strings.Join(types, ", "),
	}}
}

// UnroutedBody is upstream's answer to a patch whose type no path has.
func UnroutedBody() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType, Details: &metav1.StatusDetails{},
		Message: "415: Unsupported Media Type",
	}}
}

// Unsupported is upstream's answer to a body of an unknown type; types defaults to those of objects.
func Unsupported(types ...string) error {
	if len(types) == 0 {
		types = accepted
	}
	return failure(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(types, ", "))
}

func failure(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}
