package managed

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
)

// schemeName is what conversion errors call the rows.
const schemeName = "clipper"

// A family is all versions of the objects of one table, of all rows that share it. It converts between them.
type family struct {
	mu      sync.Mutex // guards changes
	members atomic.Pointer[[]member]
}

// A member is one version of one row.
type member struct {
	row    *api.Resource
	gvk    schema.GroupVersionKind
	api    *api.Version
	goType reflect.Type // the Go type of its objects
}

// add lets the row take part, in place of a former one of the same name, which it returns. It tells whether the row is new.
func (f *family) add(row *api.Resource) (former *api.Resource, added bool) {
	if f.has(row) {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []member
	for _, m := range f.all() {
		if m.row.Group == row.Group && m.row.Name == row.Name {
			former = m.row
			continue
		}
		all = append(all, m)
	}
	for i := range row.Versions {
		v := &row.Versions[i]
		gvk := schema.GroupVersionKind{Group: row.Group, Version: v.Version, Kind: row.Kind}
		all = append(all, member{row, gvk, v, reflect.TypeOf(v.New())})
	}
	f.members.Store(&all)
	return former, true
}

func (f *family) has(row *api.Resource) bool {
	return slices.ContainsFunc(f.all(), func(m member) bool { return m.row == row })
}

func (f *family) all() []member {
	if p := f.members.Load(); p != nil {
		return *p
	}
	return nil
}

// version finds the member that is of a group and version.
func (f *family) version(gv schema.GroupVersion) (member, bool) {
	for _, m := range f.all() {
		if m.gvk.GroupVersion() == gv {
			return m, true
		}
	}
	return member{}, false
}

// New implements runtime.ObjectCreater.
func (f *family) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	m, ok := f.version(gvk.GroupVersion())
	if !ok || m.gvk.Kind != gvk.Kind {
		return nil, runtime.NewNotRegisteredErrForKind(schemeName, gvk)
	}
	o := m.api.New()
	o.GetObjectKind().SetGroupVersionKind(gvk)
	return o, nil
}

// ConvertToVersion implements runtime.ObjectConvertor. The internal version of any group is the hub. The result may share
// memory with its argument.
func (f *family) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gv, ok := target.(schema.GroupVersion)
	if !ok {
		return nil, fmt.Errorf("convert to %v: it is no group and version", target)
	}
	hub, err := f.hub(in)
	if err != nil || gv.Version == runtime.APIVersionInternal {
		return hub, err
	}
	m, ok := f.version(gv)
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget(schemeName, reflect.TypeOf(in), target)
	}
	if m.api.FromHub != nil {
		if hub, err = m.api.FromHub(hub); err != nil {
			return nil, err
		}
	}
	return labelled(hub, m.gvk), nil
}

// hub converts an object of any version, or with any content, to the stored version's Go type.
func (f *family) hub(in runtime.Object) (api.Object, error) {
	o, v, err := f.structured(in)
	if err != nil {
		return nil, err
	}
	if v.ToHub == nil {
		return o, nil
	}
	return v.ToHub(o)
}

// structured returns an object as its version's Go type, with that version.
func (f *family) structured(in runtime.Object) (api.Object, *api.Version, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return f.recognized(in)
	}
	m, ok := f.version(u.GroupVersionKind().GroupVersion())
	if !ok {
		return nil, nil, runtime.NewNotRegisteredErrForKind(schemeName, u.GroupVersionKind())
	}
	o := m.api.New()
	if same, ok := o.(*unstructured.Unstructured); ok {
		same.Object = u.Object
		return same, m.api, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
		return nil, nil, fmt.Errorf("unable to convert unstructured object to %v: %w", u.GroupVersionKind(), err)
	}
	return o, m.api, nil
}

// recognized finds the version of an object by its Go type; versions that share one are the hub's.
func (f *family) recognized(in runtime.Object) (api.Object, *api.Version, error) {
	o, ok := in.(api.Object)
	if !ok {
		return nil, nil, fmt.Errorf("a %T has no metadata", in)
	}
	for _, m := range f.all() {
		if m.goType == reflect.TypeOf(in) {
			return o, m.api, nil
		}
	}
	return nil, nil, fmt.Errorf("nothing serves a %T", in)
}

// Convert implements runtime.ObjectConvertor.
func (f *family) Convert(_, _, _ any) error {
	return errors.New("managed fields need conversions to a version only")
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (f *family) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// labelled returns a shallow copy of an object that may be shared, with its apiVersion and kind set.
func labelled(o api.Object, gvk schema.GroupVersionKind) runtime.Object {
	v := reflect.ValueOf(o)
	if u, ok := o.(*unstructured.Unstructured); ok {
		content := make(map[string]any, len(u.Object)+2)
		for k, field := range u.Object {
			content[k] = field
		}
		c := &unstructured.Unstructured{Object: content}
		c.SetGroupVersionKind(gvk)
		return c
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	out := c.Interface().(runtime.Object)
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out
}
