package apiextensions

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/api/check"
)

var (
	columnTypes   = []string{"boolean", "date", "integer", "number", "string"}
	columnFormats = []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
)

// maxSelectable is how many fields of a version may be selectable.
const maxSelectable = 8

func anyStatus(s *apiextensions.CustomResourceDefinitionSpec) bool {
	if s.Subresources != nil && s.Subresources.Status != nil {
		return true
	}
	return slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool {
		return v.Subresources != nil && v.Subresources.Status != nil
	})
}

func checkColumn(e *check.Errors, path *field.Path, c *apiextensions.CustomResourceColumnDefinition) {
	e.NonEmpty(path.Child("name"), c.Name)
	types := "must be one of " + strings.Join(columnTypes, ",")
	if c.Type == "" {
		e.Required(path.Child("type"), types)
	} else if !slices.Contains(columnTypes, c.Type) {
		e.Invalid(path.Child("type"), c.Type, types)
	}
	if c.Format != "" && !slices.Contains(columnFormats, c.Format) {
		e.Invalid(path.Child("format"), c.Format, "must be one of "+strings.Join(columnFormats, ","))
	}
	if c.JSONPath == "" {
		e.Required(path.Child("JSONPath"), "")
		return
	}
	simplePath(e, path.Child("JSONPath"), c.JSONPath)
}

// simplePath checks a path in dot notation.
func simplePath(e *check.Errors, path *field.Path, text string) bool {
	if text == "" {
		e.Invalid(path, text, "must not be empty")
		return false
	}
	if text[0] != '.' {
		e.Invalid(path, text, "must be a simple json path starting with .")
		return false
	}
	return true
}

func checkSubresources(e *check.Errors, path *field.Path, s *apiextensions.CustomResourceSubresources) {
	if s == nil || s.Scale == nil {
		return
	}
	below := func(name, text, root string) {
		at := path.Child("scale." + name)
		if text == "" {
			e.Required(at, "")
			return
		}
		if simplePath(e, at, text) && !strings.HasPrefix(text, root+".") {
			e.Invalid(at, text, "should be a json path under "+root)
		}
	}
	below("specReplicasPath", s.Scale.SpecReplicasPath, ".spec")
	below("statusReplicasPath", s.Scale.StatusReplicasPath, ".status")
	selector := s.Scale.LabelSelectorPath
	if selector == nil || *selector == "" {
		return
	}
	at := path.Child("scale.labelSelectorPath")
	if simplePath(e, at, *selector) && !strings.HasPrefix(*selector, ".spec.") && !strings.HasPrefix(*selector, ".status.") {
		e.Invalid(at, selector, "should be a json path under either .spec or .status")
	}
}

// keptSelectable tells whether a version had too many selectable fields before, the same ones.
func (s scope) keptSelectable(version string, now []apiextensions.SelectableField) bool {
	if s.old == nil {
		return false
	}
	before := s.old.Spec.SelectableFields
	for _, v := range s.old.Spec.Versions {
		if version != "" && v.Name == version {
			before = v.SelectableFields
		}
	}
	return len(before) > maxSelectable && equality.Semantic.DeepEqual(now, before)
}

func checkSelectable(e *check.Errors, path *field.Path, fields []apiextensions.SelectableField, v *apiextensions.CustomResourceValidation, kept bool) {
	if v.OpenAPIV3Schema == nil {
		return // complained of elsewhere
	}
	schema, err := structuralschema.NewStructural(v.OpenAPIV3Schema)
	if err != nil {
		e.Invalid(path.Child("schema.openAPIV3Schema"), "", err.Error())
		return
	}
	path = path.Child("selectableFields")
	seen := map[string]bool{}
	for i, f := range fields {
		at := path.Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			e.Required(at, "")
			continue
		}
		found, target, err := cel.ValidFieldPath(f.JSONPath, schema, cel.WithFieldPathAllowArrayNotation(false))
		if err != nil {
			e.Invalidf(at, f.JSONPath, "is an invalid path: %v", err)
			continue
		}
		if found.Root().String() == "metadata" {
			e.Invalid(at, f.JSONPath, "must not point to fields in metadata")
		}
		if target == nil || !slices.Contains([]string{"string", "boolean", "integer"}, target.Type) {
			e.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.")
		}
		if seen[found.String()] {
			e.Duplicate(at, f.JSONPath)
		}
		seen[found.String()] = true
	}
	if len(seen) > maxSelectable && !kept {
		e.TooMany(path, len(seen), maxSelectable)
	}
}

// schemasOf returns all schemas of a definition.
func schemasOf(s *apiextensions.CustomResourceDefinitionSpec) []*apiextensions.JSONSchemaProps {
	var out []*apiextensions.JSONSchemaProps
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		out = append(out, s.Validation.OpenAPIV3Schema)
	}
	for _, v := range s.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			out = append(out, v.Schema.OpenAPIV3Schema)
		}
	}
	return out
}

// walk visits a schema and everything in it.
func walk(s *apiextensions.JSONSchemaProps, visit func(*apiextensions.JSONSchemaProps)) {
	if s == nil {
		return
	}
	visit(s)
	for _, list := range [][]apiextensions.JSONSchemaProps{s.AllOf, s.OneOf, s.AnyOf} {
		for i := range list {
			walk(&list[i], visit)
		}
	}
	for _, group := range []map[string]apiextensions.JSONSchemaProps{s.Properties, s.PatternProperties, s.Definitions} {
		for _, p := range group {
			walk(&p, visit)
		}
	}
	walk(s.Not, visit)
	if s.Items != nil {
		walk(s.Items.Schema, visit)
		for i := range s.Items.JSONSchemas {
			walk(&s.Items.JSONSchemas[i], visit)
		}
	}
	if s.AdditionalProperties != nil {
		walk(s.AdditionalProperties.Schema, visit)
	}
	if s.AdditionalItems != nil {
		walk(s.AdditionalItems.Schema, visit)
	}
	for _, d := range s.Dependencies {
		walk(d.Schema, visit)
	}
}

func definitionWarnings(d, old *apiextensionsv1.CustomResourceDefinition) (warnings []string) {
	before := map[string]bool{}
	if old != nil {
		for _, f := range unknownFormats(old) {
			before[f] = true
		}
	}
	for _, f := range unknownFormats(d) {
		if !before[f] {
			warnings = append(warnings, fmt.Sprintf("unrecognized format %q", f))
		}
	}
	return warnings
}

func unknownFormats(d *apiextensionsv1.CustomResourceDefinition) (out []string) {
	var e check.Errors
	in := internal(&e, d)
	if in == nil {
		return nil
	}
	for _, schema := range schemasOf(&in.Spec) {
		walk(schema, func(s *apiextensions.JSONSchemaProps) {
			if s.Format == "" {
				return
			}
			one := &spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
			out = append(out, schemavalidation.GetUnrecognizedFormats(one, environment.DefaultCompatibilityVersion())...)
		})
	}
	return out
}
