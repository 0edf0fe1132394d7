package apiserver

import (
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/store"
)

// Kinds whose objects are unstructured (custom resources) have no protobuf: they are JSON in etcd, in the cache and on the wire.

func isText(o api.Object) bool {
	_, ok := o.(*unstructured.Unstructured)
	return ok
}

// text tells whether objects of the kind are unstructured.
func (r *resource) text() bool { return r.kind != nil && r.kind.Text }

// dropType clears an object's apiVersion and kind, which structured objects have on the wire only.
func dropType(o runtime.Object) {
	if _, ok := o.(*unstructured.Unstructured); !ok {
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
}

// typedText returns a copy of an object, which shares all but its top level, with its apiVersion and kind set.
func typedText(u *unstructured.Unstructured, gvk schema.GroupVersionKind) *unstructured.Unstructured {
	content := make(map[string]any, len(u.Object)+2)
	for k, v := range u.Object {
		content[k] = v
	}
	content["apiVersion"], content["kind"] = gvk.GroupVersion().String(), gvk.Kind
	return &unstructured.Unstructured{Object: content}
}

// acceptChecked is accept for an object that came from outside: fields that its version's schema doesn't know are
// refused, warned of or ignored as the directive says. refuse words the refusal, of these and of what is no object of the kind.
func (v *version) acceptChecked(c *call, obj api.Object, directive string, refuse func(error) error) (api.Object, error) {
	if v.api.Coerce == nil {
		return v.accept(obj)
	}
	directive = strictness(directive)
	unknown, err := v.api.Coerce(obj, directive != metav1.FieldValidationIgnore)
	if err != nil {
		return nil, refuse(err)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		errs := make([]error, len(unknown))
		for i, path := range unknown {
			errs[i] = fmt.Errorf(`unknown field "%s"`, path)
		}
		if directive == metav1.FieldValidationStrict {
			return nil, refuse(runtime.NewStrictDecodingError(errs))
		}
		for _, err := range errs {
			c.warn(err.Error())
		}
	}
	return v.accept(obj)
}

// kindShown is the kind by which errors call an object: a custom resource may say that it is another's.
func (v *version) kindShown(o api.Object) schema.GroupKind {
	if u, ok := o.(*unstructured.Unstructured); ok && u.GetKind() != "" {
		return u.GroupVersionKind().GroupKind()
	}
	return v.gk()
}

// unfit words the refusal of a body.
func (v *version) unfit(err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", v.gvk.Kind, v.gvk.Version, v.gvk.Kind, err))
}

// fill prunes the result of an apply patch, a hub object, and sets its defaults, in the patch's version.
func (v *version) fill(hub api.Object) (api.Object, error) {
	o, err := v.fromHub(hub)
	if err != nil {
		return nil, err
	}
	o = typed(o.DeepCopyObject(), v.gvk).(api.Object)
	if v.api.Default != nil {
		v.api.Default(o)
	}
	return v.toHub(o)
}

// live is a stored object as writes work on it: the hub's, or, where there is no hub, the version's.
func (v *version) live(e *store.Entry) (api.Object, error) {
	o, err := objectOf(e)
	if err != nil || !v.text() {
		return o, err
	}
	return v.fromHub(o)
}
