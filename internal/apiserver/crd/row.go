package crd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/version"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/hook"
)

// A served definition.
type served struct {
	definition  *definition // as it was when the row was made; Spec and accepted names are what counts
	row         *api.Resource
	terminating *atomic.Bool // no objects are created any more
	schemas     map[string]*schema
	convert     converter
}

// serve makes the row of a definition; nil if it serves no version.
func serve(d *definition, caller *hook.Caller, m *conversionMetrics) *served {
	s := &served{definition: d, terminating: &atomic.Bool{}, schemas: map[string]*schema{}, convert: newConverter(d, caller, m)}
	names := d.Status.AcceptedNames
	s.row = &api.Resource{
		Group: d.Spec.Group, Name: names.Plural, Singular: names.Singular, Kind: names.Kind, ListKind: names.ListKind,
		ShortNames: names.ShortNames, Categories: names.Categories, Namespaced: d.Spec.Scope == apiextensionsv1.NamespaceScoped,
		StoredAs: kschema.GroupVersionKind{Group: d.Spec.Group, Version: storageVersion(d), Kind: names.Kind},
		Prefix:   d.Spec.Group + "/" + names.Plural,
		Stored:   s.stored, Default: s.settle, HasGeneration: true, AnyFinalizer: true, ShownVerbs: s.verbs,
	}
	versions := slices.Clone(d.Spec.Versions)
	slices.SortStableFunc(versions, func(a, b apiextensionsv1.CustomResourceDefinitionVersion) int {
		return version.CompareKubeAwareVersionStrings(b.Name, a.Name)
	})
	s.row.Fields = map[string]func(api.Object) string{}
	for i := range versions {
		s.addVersion(&versions[i])
	}
	if !slices.ContainsFunc(versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Served }) {
		s.row = nil
	}
	return s
}

// verbs are in upstream's order. Those of a kind that is going are fewer, although its objects may still be changed.
func (s *served) verbs() []string {
	if s.terminating.Load() {
		return []string{"delete", "deletecollection", "get", "list", "watch"}
	}
	return []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
}

func (s *served) addVersion(v *apiextensionsv1.CustomResourceDefinitionVersion) {
	gv := kschema.GroupVersion{Group: s.definition.Spec.Group, Version: v.Name}
	schema := newSchema(s.definition, v)
	s.schemas[v.Name] = schema
	one := &versioned{served: s, gv: gv, schema: schema, spec: v}
	out := api.Version{
		Version: v.Name,
		New: func() api.Object {
			return &unstructured.Unstructured{Object: map[string]any{"apiVersion": gv.String(), "kind": s.row.Kind}}
		},
		NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
		FromHub: func(o api.Object) (api.Object, error) { return one.of(o) },
		Coerce: func(o api.Object, look bool) ([]string, error) {
			u := o.(*unstructured.Unstructured)
			return one.schemaOf(u).coerce(u, look)
		},
		Default:    func(o api.Object) { schema.fill(o.(*unstructured.Unstructured)) },
		StoredOnly: !v.Served,
	}
	if c := s.definition.Spec.Conversion; c != nil && c.Strategy == apiextensionsv1.WebhookConverter {
		out.FromHubs = one.ofAll
	}
	if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
		out.Schema = sync.OnceValues(func() ([]byte, error) { return json.Marshal(v.Schema.OpenAPIV3Schema) })
	}
	for _, f := range v.SelectableFields {
		out.Selectable = append(out.Selectable, strings.TrimPrefix(f.JSONPath, "."))
	}
	if v.Deprecated {
		out.Deprecated = fmt.Sprintf("%s/%s %s is deprecated", gv.Group, gv.Version, s.row.Kind)
		if v.DeprecationWarning != nil {
			out.Deprecated = *v.DeprecationWarning
		}
	}
	out.Own = one.row()
	if v.Subresources != nil && v.Subresources.Status != nil && s.row.Status == nil {
		s.row.Status = out.Own.Status
	}
	for name, value := range out.Own.Fields {
		s.row.Fields[name] = value
	}
	s.row.Versions = append(s.row.Versions, out)
}

// stored converts an object to the storage version.
func (s *served) stored(o api.Object) (api.Object, error) {
	return s.as(o, s.row.StoredAs.GroupVersion())
}

// as converts an object to a version; one that is of it already is returned itself.
func (s *served) as(o api.Object, gv kschema.GroupVersion) (*unstructured.Unstructured, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a custom resource is a %T", o)
	}
	if u.GetAPIVersion() == gv.String() {
		return u, nil
	}
	out, err := s.convert([]*unstructured.Unstructured{u}, gv)
	if err != nil {
		return nil, err
	}
	if schema := s.schemas[gv.Version]; schema != nil {
		err = schema.settle(out[0])
	}
	return out[0], err
}

// settle brings what is read from storage into the form of its version's schema. An object of a version that is gone, or whose
// schema is broken, stays as it is: it must still be listed and deleted.
func (s *served) settle(o api.Object) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return
	}
	if schema := s.schemas[u.GroupVersionKind().Version]; schema != nil {
		_ = schema.settle(u)
	}
}

// versioned is one version of a definition.
type versioned struct {
	*served
	gv     kschema.GroupVersion
	schema *schema
	spec   *apiextensionsv1.CustomResourceDefinitionVersion
}

// schemaOf is the schema of the version that an object says it is of. What is of none knows no fields.
func (v *versioned) schemaOf(u *unstructured.Unstructured) *schema {
	gv := u.GroupVersionKind().GroupVersion()
	if gv.Group != v.gv.Group {
		return v.schema
	}
	if schema := v.schemas[gv.Version]; schema != nil {
		return schema
	}
	return fieldless
}

func (v *versioned) of(o api.Object) (*unstructured.Unstructured, error) { return v.as(o, v.gv) }

// ofAll is of for many objects. Those that have to be converted are all converted at once.
func (v *versioned) ofAll(all []api.Object) ([]api.Object, error) {
	out := slices.Clone(all)
	var others []*unstructured.Unstructured
	var places []int
	for i, o := range all {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("a custom resource is a %T", o)
		}
		if u.GetAPIVersion() != v.gv.String() {
			others, places = append(others, u), append(places, i)
		}
	}
	if len(others) == 0 {
		return out, nil
	}
	converted, err := v.convert(others, v.gv)
	if err != nil {
		return nil, err
	}
	for i, u := range converted {
		if schema := v.schemas[v.gv.Version]; schema != nil {
			if err := schema.settle(u); err != nil {
				return nil, err
			}
		}
		out[places[i]] = u
	}
	return out, nil
}

// row is what the kind is in this version.
func (v *versioned) row() *api.Resource {
	own := *v.served.row
	own.Versions, own.Default, own.Status = nil, nil, nil
	own.PrepareCreate = v.prepareCreate
	own.PrepareUpdate = v.prepareUpdate
	own.SpecChanged = v.changed
	own.Validate = func(o api.Object) field.ErrorList { return v.checked(o, nil, v.validate) }
	own.ValidateUpdate = func(o, old api.Object) field.ErrorList { return v.checked(o, old, v.schema.validateUpdate) }
	own.Canonicalize = func(o api.Object) { v.schema.dropNothings(o.(*unstructured.Unstructured)) }
	own.Warnings = finalizerWarnings
	own.Hooks.BeginCreate = v.refuseTerminating
	own.Fields = v.selectable()
	own.Columns, own.Cells = v.columns()
	sub := v.spec.Subresources
	if sub != nil && sub.Status != nil {
		own.Status = &api.Status{ResetFields: []string{"metadata", "spec"}, PrepareUpdate: prepareStatus, ValidateUpdate: func(o, old api.Object) field.ErrorList {
			return v.checked(o, old, v.schema.validateStatus)
		}}
	}
	if sub != nil && sub.Scale != nil {
		own.Scale = v.scale(sub.Scale)
	}
	return &own
}

func (v *versioned) validate(u, _ *unstructured.Unstructured, faults field.ErrorList) field.ErrorList {
	return v.schema.validate(u, v.served.row.Namespaced, faults)
}

// checked calls a check with objects of the version, and with what is wrong with the new one's type.
func (v *versioned) checked(o, old api.Object, check func(u, old *unstructured.Unstructured, faults field.ErrorList) field.ErrorList) field.ErrorList {
	u, err := v.of(o)
	if err != nil {
		return broken(err)
	}
	var before *unstructured.Unstructured
	if old != nil {
		if before, err = v.of(old); err != nil {
			return broken(err)
		}
	}
	var faults field.ErrorList
	if kind := u.GetKind(); kind != v.served.row.Kind {
		faults = append(faults, field.Invalid(field.NewPath("kind"), kind, fmt.Sprintf("must be %v", v.served.row.Kind)))
	}
	if given := v.strange(o, old); given != "" {
		faults = append(faults, field.Invalid(field.NewPath("apiVersion"), given, fmt.Sprintf("must be %v", v.gv)))
	}
	return check(u, before, faults)
}

// strange returns the apiVersion of an object if it's not this one, and an update has brought it: what lies in storage may be of a version that
// is gone.
func (v *versioned) strange(o, old api.Object) string {
	given := o.(*unstructured.Unstructured).GetAPIVersion()
	if given == v.gv.String() || old != nil && old.(*unstructured.Unstructured).GetAPIVersion() == given {
		return ""
	}
	return given
}

func (v *versioned) hasStatus() bool {
	return v.spec.Subresources != nil && v.spec.Subresources.Status != nil
}

func (v *versioned) prepareCreate(o api.Object) {
	if u := o.(*unstructured.Unstructured); v.hasStatus() {
		delete(u.Object, "status")
	}
}

func (v *versioned) prepareUpdate(o, old api.Object) {
	if !v.hasStatus() {
		return
	}
	u, before := o.(*unstructured.Unstructured), old.(*unstructured.Unstructured)
	if status, ok := before.Object["status"]; ok {
		u.Object["status"] = runtime.DeepCopyJSONValue(status)
		return
	}
	delete(u.Object, "status")
}

// prepareStatus lets a write to the status change nothing else but the record of who owns what.
func prepareStatus(o, old api.Object) {
	u, before := o.(*unstructured.Unstructured), old.(*unstructured.Unstructured)
	status, given := u.Object["status"]
	managed, resourceVersion := u.GetManagedFields(), u.GetResourceVersion()
	u.Object = before.DeepCopy().Object
	u.SetManagedFields(managed)
	u.SetResourceVersion(resourceVersion)
	delete(u.Object, "status")
	if given {
		u.Object["status"] = status
	}
}

// changed tells whether an update changes what is desired: anything but metadata, and but status where that is a subresource.
func (v *versioned) changed(o, old api.Object) bool {
	a, b := o.(*unstructured.Unstructured).Object, old.(*unstructured.Unstructured).Object
	ignored := func(name string) bool { return name == "metadata" || name == "status" && v.hasStatus() }
	for name, value := range a {
		if !ignored(name) && !equality.Semantic.DeepEqual(value, b[name]) {
			return true
		}
	}
	for name := range b {
		if _, still := a[name]; !still && !ignored(name) {
			return true
		}
	}
	return false
}

func (v *versioned) refuseTerminating(_ context.Context, _ api.Env, obj api.Object, _ bool) (func(bool), error) {
	if !v.terminating.Load() {
		return nil, nil
	}
	resource := kschema.GroupResource{Group: v.gv.Group, Resource: v.served.row.Name}
	return nil, apierrors.NewForbidden(resource, obj.GetName(), errors.New("create not allowed while custom resource definition is terminating"))
}

func (v *versioned) scale(s *apiextensionsv1.CustomResourceSubresourceScale) *api.Scale {
	return &api.Scale{
		ReplicasPath: strings.TrimPrefix(s.SpecReplicasPath, "."),
		Get: func(o api.Object) (int32, int32, string, error) {
			u, err := v.of(o)
			if err != nil {
				return 0, 0, "", err
			}
			spec, found, err := unstructured.NestedInt64(u.Object, fieldsOf(s.SpecReplicasPath)...)
			if err != nil {
				return 0, 0, "", err
			}
			if !found {
				return 0, 0, "", apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", s.SpecReplicasPath))
			}
			status, _, err := unstructured.NestedInt64(u.Object, fieldsOf(s.StatusReplicasPath)...)
			if err != nil {
				return 0, 0, "", err
			}
			selector := ""
			if s.LabelSelectorPath != nil && *s.LabelSelectorPath != "" {
				if selector, _, err = unstructured.NestedString(u.Object, fieldsOf(*s.LabelSelectorPath)...); err != nil {
					return 0, 0, "", err
				}
			}
			return int32(spec), int32(status), selector, nil
		},
		Set: func(o api.Object, replicas int32) {
			// The path leads through objects: Get has been there.
			_ = unstructured.SetNestedField(o.(*unstructured.Unstructured).Object, int64(replicas), fieldsOf(s.SpecReplicasPath)...)
		},
	}
}
