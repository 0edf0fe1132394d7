package managed

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/schemaconv"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"clipper.dev/clipper/internal/api"
	builtin "clipper.dev/clipper/internal/apiserver/managed/schema"
	"clipper.dev/clipper/internal/apiserver/openapi"
)

// types tells how the fields of each kind are merged.
type types struct {
	kinds  map[schema.GroupVersionKind]typed.ParseableType // of the built-in kinds
	custom sync.Map                                        // schema.GroupVersionKind → typed.ParseableType
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

// of returns the type of a kind. The fields of kinds without a schema are merged by what their values are.
func (t *types) of(gvk schema.GroupVersionKind) typed.ParseableType {
	if p, ok := t.kinds[gvk]; ok {
		return p
	}
	if p, ok := t.custom.Load(gvk); ok {
		return p.(typed.ParseableType)
	}
	return typed.DeducedParseableType
}

// learn takes the types of a custom kind's versions from its schemas. Each version's takes the place of a former one.
func (t *types) learn(row *api.Resource) error {
	for i := range row.Versions {
		v := &row.Versions[i]
		if v.Schema == nil {
			continue
		}
		gvk := schema.GroupVersionKind{Group: row.Group, Version: v.Version, Kind: row.Kind}
		p, err := typeOf(gvk, v)
		if err != nil {
			t.custom.Delete(gvk)
			return fmt.Errorf("learn the type of %s: %w", gvk, err)
		}
		t.custom.Store(gvk, p)
	}
	return nil
}

func typeOf(gvk schema.GroupVersionKind, v *api.Version) (typed.ParseableType, error) {
	raw, err := v.Schema()
	if err != nil || len(raw) == 0 {
		return typed.DeducedParseableType, err
	}
	models, name, err := openapi.Types(gvk, raw)
	if err != nil {
		return typed.DeducedParseableType, err
	}
	types, err := schemaconv.ToSchemaFromOpenAPI(models, false)
	if err != nil {
		return typed.DeducedParseableType, err
	}
	parser := &typed.Parser{Schema: smd.Schema{Types: types.Types}}
	return parser.Type(name), nil
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
