package openapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/apiserver"
)

const (
	v3Prefix   = "#/components/schemas/"
	typeMeta   = "io.k8s.apimachinery.pkg.apis.meta.v1.TypeMeta"
	objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	listMeta   = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
	convention = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
)

// isCustom tells whether a kind has no Go type.
func isCustom(s *apiserver.Served) bool {
	_, ok := s.Version.New().(*unstructured.Unstructured)
	return ok
}

// customName is the definition of a custom kind: "com.example.stable.v1.CronTab".
func customName(gvk schema.GroupVersionKind) string {
	parts := strings.Split(gvk.Group, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, gvk.Version, gvk.Kind), ".")
}

func customModels(s *apiserver.Served) (object, list model) {
	gv := schema.GroupVersion{Group: s.Row.Group, Version: s.Version.Version}
	return model(customName(gv.WithKind(s.Row.Kind))), model(customName(gv.WithKind(customListKind(s))))
}

func customListKind(s *apiserver.Served) string {
	if s.Row.ListKind != "" {
		return s.Row.ListKind
	}
	return s.Row.Kind + "List"
}

// customRoutes turns the routes of a built-in kind into those of a custom one, as upstream documents them.
func customRoutes(routes []common.Route) []common.Route {
	texts := []string{"application/json", "application/yaml"}
	var out []common.Route
	for _, each := range routes {
		r := each.(*route)
		action := r.metadata["x-kubernetes-action"]
		if action == "watch" || action == "watchlist" {
			continue
		}
		r.produces, r.consumes = texts, texts
		switch action {
		case "list":
			r.description = strings.Replace(r.description, "list or watch objects", "list objects", 1)
		case "get":
			r.params = append(r.params, optionsParams(metav1.GetOptions{})...)
		case "patch":
			r.consumes = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType)}
			r.answers = r.answers[:1]
		case "deletecollection":
			r.body = ""
			r.params = slices.DeleteFunc(r.params, func(p common.Parameter) bool { return p.Kind() == common.QueryParameterKind })
			r.with(metav1.ListOptions{})
		}
		out = append(out, r)
	}
	return out
}

// addCustom adds the definitions of the custom kinds that a document names.
func addCustom(all map[string]Definition, served []apiserver.Served, v2 bool) error {
	for i := range served {
		s := &served[i]
		if !isCustom(s) {
			continue
		}
		if err := addCustomKind(all, s, v2); err != nil {
			return fmt.Errorf("document %s/%s %s: %w", s.Row.Group, s.Version.Version, s.Row.Kind, err)
		}
	}
	return nil
}

func addCustomKind(all map[string]Definition, s *apiserver.Served, v2 bool) error {
	gv := schema.GroupVersion{Group: s.Row.Group, Version: s.Version.Version}
	raw, err := schemaOf(s)
	if err != nil {
		return err
	}
	structural, err := structuralOf(raw)
	if err != nil {
		return err
	}
	if structural != nil {
		structural = structural.Unfold()
	}
	object, err := customDefinition(all, gv.WithKind(s.Row.Kind), structural, v2, s.Version.Selectable)
	if err != nil {
		return err
	}
	list, err := customList(all, s)
	if err != nil {
		return err
	}
	objectModel, listModel := customModels(s)
	all[string(objectModel)] = Definition{Schema: object, Dependencies: []string{objectMeta}}
	all[string(listModel)] = Definition{Schema: list, Dependencies: []string{string(objectModel), listMeta}}
	return nil
}

// schemaOf is the schema of a served version; nil if it has none.
func schemaOf(s *apiserver.Served) ([]byte, error) {
	if s.Version.Schema == nil {
		return nil, nil
	}
	return s.Version.Schema()
}

// structuralOf reads a schema; nil if there is none, or none that can be told.
func structuralOf(raw []byte) (*structuralschema.Structural, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var props apiextensionsv1.JSONSchemaProps
	if err := json.Unmarshal(raw, &props); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&props, &internal, nil); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	s, err := structuralschema.NewStructural(&internal)
	if err != nil || len(structuralschema.ValidateStructural(nil, s)) > 0 || !typesKnown(s) {
		return nil, nil // what is not structural is served, but not documented
	}
	return s, nil
}

// jsonTypes are those that a schema may name.
var jsonTypes = []string{"", "array", "boolean", "integer", "number", "object", "string"}

func typesKnown(s *structuralschema.Structural) bool {
	known := true
	visitor := structuralschema.Visitor{Structural: func(s *structuralschema.Structural) bool {
		known = known && slices.Contains(jsonTypes, s.Type)
		return false
	}}
	visitor.Visit(s)
	return known
}

// customDefinition is the definition of a custom kind, with references as definitions are kept.
func customDefinition(all map[string]Definition, gvk schema.GroupVersionKind, s *structuralschema.Structural, v2 bool, selectable []string) ([]byte, error) {
	out := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	if s != nil && (!v2 || !s.XPreserveUnknownFields) {
		if v2 {
			s = openapiv2.ToStructuralOpenAPIV2(s)
		}
		out = s.ToKubeOpenAPI()
		meta, err := typeMetaOf(all)
		if err != nil {
			return nil, err
		}
		out.SetProperty("metadata", *metadataProperty())
		out.SetProperty("apiVersion", meta["apiVersion"])
		out.SetProperty("kind", meta["kind"])
		addEmbedded(out, meta, v2)
	}
	out.AddExtension(gvkExtension, []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	addSelectable(out, selectable)
	return json.Marshal(out)
}

// addSelectable names the fields that objects may be selected by.
func addSelectable(s *spec.Schema, fields []string) {
	if len(fields) == 0 {
		return
	}
	var list []any
	for _, f := range fields {
		list = append(list, map[string]any{"fieldPath": f})
	}
	s.AddExtension("x-kubernetes-selectable-fields", list)
}

func metadataProperty() *spec.Schema {
	return spec.RefSchema(ReferencePrefix + objectMeta).WithDescription(metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"])
}

// typeMetaOf are the properties that every object has.
func typeMetaOf(all map[string]Definition) (map[string]spec.Schema, error) {
	d := all[typeMeta]
	parsed, err := d.parse(ReferencePrefix)
	if err != nil {
		return nil, fmt.Errorf("read the definition of %s: %w", typeMeta, err)
	}
	return parsed.Schema.Properties, nil
}

// addEmbedded adds what every object has to the objects within.
func addEmbedded(s *spec.Schema, meta map[string]spec.Schema, v2 bool) {
	if s == nil {
		return
	}
	for name, property := range s.Properties {
		addEmbedded(&property, meta, v2)
		s.Properties[name] = property
	}
	if s.Items != nil {
		addEmbedded(s.Items.Schema, meta, v2)
	}
	if s.AdditionalProperties != nil {
		addEmbedded(s.AdditionalProperties.Schema, meta, v2)
	}
	if free, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); free && v2 {
		return // kubectl would refuse every other field
	}
	if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !embedded {
		return
	}
	version, kind := meta["apiVersion"], meta["kind"]
	version.Description = "apiVersion defines the versioned schema of this representation of an object. More info: " + convention + "#resources"
	kind.Description = "kind is a string value representing the type of this object. In CamelCase. More info: " + convention + "#types-kinds"
	s.SetProperty("apiVersion", version)
	s.SetProperty("kind", kind)
	s.SetProperty("metadata", *metadataProperty())
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

func customList(all map[string]Definition, s *apiserver.Served) ([]byte, error) {
	meta, err := typeMetaOf(all)
	if err != nil {
		return nil, err
	}
	object, _ := customModels(s)
	kind := customListKind(s)
	out := new(spec.Schema).Typed("object", "").WithDescription(kind+" is a list of "+s.Row.Kind).WithRequired("items").
		SetProperty("items", *spec.ArrayProperty(spec.RefSchema(ReferencePrefix + string(object))).WithDescription("List of " + s.Row.Name + ". More info: " + convention)).
		SetProperty("metadata", *spec.RefSchema(ReferencePrefix + listMeta).WithDescription(metav1.PartialObjectMetadataList{}.SwaggerDoc()["metadata"]))
	out.SetProperty("apiVersion", meta["apiVersion"])
	out.SetProperty("kind", meta["kind"])
	out.AddExtension(gvkExtension, []any{map[string]any{"group": s.Row.Group, "version": s.Version.Version, "kind": kind}})
	addSelectable(out, s.Version.Selectable)
	return json.Marshal(out)
}

// Types returns the definitions, by name, from which field management learns how the objects of a custom kind are
// merged, and the name of the kind's own. raw is its schema as api.Version has it.
func Types(gvk schema.GroupVersionKind, raw []byte) (definitions map[string]*spec.Schema, name string, err error) {
	all, err := builtInDefinitions()
	if err != nil {
		return nil, "", err
	}
	structural, err := structuralOf(raw)
	if err != nil {
		return nil, "", err
	}
	if structural != nil {
		structural = structural.Unfold()
	}
	own, err := customDefinition(all, gvk, structural, false, nil)
	if err != nil {
		return nil, "", err
	}
	name = customName(gvk)
	all[name] = Definition{Schema: own, Dependencies: []string{objectMeta}}
	needed, err := closure(all, []string{name}, v3Prefix)
	if err != nil {
		return nil, "", err
	}
	definitions = map[string]*spec.Schema{}
	for n, d := range needed {
		definitions[n] = &d.Schema
	}
	return definitions, name, nil
}
