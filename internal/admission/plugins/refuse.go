package plugins

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/admission"
)

// forbid refuses a request as upstream's plugins do. A refusal isn't wrapped in another.
func forbid(r *admission.Request, err error) error {
	if apierrors.IsForbidden(err) {
		return err
	}
	return apierrors.NewForbidden(r.Resource.GroupResource(), nameOf(r), err)
}

// forbidf is forbid with a text.
func forbidf(r *admission.Request, format string, args ...any) error {
	return forbid(r, fmt.Errorf(format, args...))
}

// nameOf is the name that a refusal shows.
func nameOf(r *admission.Request) string {
	if r.Name != "" {
		return r.Name
	}
	if r.Object == nil {
		return "Unknown"
	}
	m, err := meta.Accessor(r.Object)
	switch {
	case err != nil:
		return "Unknown/errorGettingName"
	case m.GetName() != "":
		return m.GetName()
	case m.GetGenerateName() != "":
		return m.GetGenerateName()
	}
	return "Unknown"
}

// objectName is the name of a request's object, which a creation carries in the object alone.
func objectName(r *admission.Request) string {
	if m, err := meta.Accessor(r.Object); err == nil && r.Name == "" {
		return m.GetName()
	}
	return r.Name
}

// concerns tells whether a request is about a resource and (possibly empty) subresource.
func concerns(r *admission.Request, group, resource, sub string) bool {
	return r.Resource.Group == group && r.Resource.Resource == resource && r.Subresource == sub
}

func groupResource(r *admission.Request) schema.GroupResource { return r.Resource.GroupResource() }

// unexpected is what a plugin answers to a type that it cannot judge.
func unexpected(r *admission.Request, o any) error { return forbidf(r, "unexpected type %T", o) }

// asPod returns the request's object as what it must be.
func as[T any](r *admission.Request, o any) (T, error) {
	t, ok := o.(T)
	if !ok {
		return t, unexpected(r, o)
	}
	return t, nil
}

var errNotConverted = errors.New("resource was marked with kind Pod but was unable to be converted")
