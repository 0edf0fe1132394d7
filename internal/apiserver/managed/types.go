package managed

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	builtin "clipper.dev/clipper/internal/apiserver/managed/schema"
)

// types tells how the fields of each kind are merged.
type types struct {
	kinds  map[schema.GroupVersionKind]typed.ParseableType
	shapes shapes
}

func newTypes() (*types, error) {
	defs, kinds, err := builtin.BuiltIn()
	if err != nil {
		return nil, err
	}
	parser := &typed.Parser{Schema: smd.Schema{Types: defs}}
	t := &types{kinds: make(map[schema.GroupVersionKind]typed.ParseableType, len(kinds))}
	for gvk, name := range kinds {
		t.kinds[gvk] = parser.Type(name)
	}
	return t, nil
}

// of returns the type of a kind. Kinds without a schema are told apart by their values.
func (t *types) of(gvk schema.GroupVersionKind) typed.ParseableType {
	if p, ok := t.kinds[gvk]; ok {
		return p
	}
	return typed.DeducedParseableType
}

// ObjectToTyped implements managedfields.TypeConverter.
func (t *types) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	p := t.of(o.GetObjectKind().GroupVersionKind())
	if u, ok := o.(*unstructured.Unstructured); ok {
		return p.FromUnstructured(u.UnstructuredContent(), opts...)
	}
	return p.FromStructured(o, opts...)
}

// TypedToObject implements managedfields.TypeConverter.
func (t *types) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	content := v.AsValue().Unstructured()
	if m, ok := content.(map[string]any); ok {
		return &unstructured.Unstructured{Object: m}, nil
	}
	return nil, fmt.Errorf("failed to convert value to unstructured for type %T", content)
}
