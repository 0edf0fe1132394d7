package apiextensions

import (
	"reflect"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// tolerance is what an update lets pass because the definition was so before: there were fewer rules once. At a creation it is nothing.
type tolerance struct {
	absentSchemas   bool // a version has none
	unknownTypes    bool
	nonStructural   bool
	unprunedDefault bool
	looseSets       bool // the items of a set aren't atomic
	looseKeys       bool // what tells items apart may be absent or null
	reviewVersions  bool // the webhook for conversions understands no version of reviews that is known
}

func toleranceOf(old *apiextensions.CustomResourceDefinitionSpec) tolerance {
	t := tolerance{absentSchemas: slices.ContainsFunc(old.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool { return !hasSchema(old, &v) })}
	for _, schema := range schemasOf(old) {
		t.nonStructural = t.nonStructural || isNonStructural(schema)
		t.unprunedDefault = t.unprunedDefault || hasUnprunedDefault(schema)
		walk(schema, func(p *apiextensions.JSONSchemaProps) {
			t.unknownTypes = t.unknownTypes || p.Type != "" && !slices.Contains(schemaTypes, p.Type)
			t.looseSets = t.looseSets || finds(p, checkSetItems)
			t.looseKeys = t.looseKeys || finds(p, checkItems)
		})
	}
	if c := old.Conversion; c != nil && len(c.ConversionReviewVersions) > 0 {
		t.reviewVersions = !slices.ContainsFunc(c.ConversionReviewVersions, isKnownReview)
	}
	return t
}

// hasSchema tells whether a version has a schema, of its own or that of all versions.
func hasSchema(spec *apiextensions.CustomResourceDefinitionSpec, v *apiextensions.CustomResourceDefinitionVersion) bool {
	return spec.Validation != nil && spec.Validation.OpenAPIV3Schema != nil || v.Schema != nil && v.Schema.OpenAPIV3Schema != nil
}

func isNonStructural(schema *apiextensions.JSONSchemaProps) bool {
	structural, err := structuralschema.NewStructural(schema)
	return err != nil || len(structuralschema.ValidateStructural(nil, structural)) > 0
}

// hasUnprunedDefault tells of a default in which there are fields that the schema doesn't have.
func hasUnprunedDefault(schema *apiextensions.JSONSchemaProps) bool {
	structural, err := structuralschema.NewStructural(schema)
	if err != nil || len(structuralschema.ValidateStructural(nil, structural)) > 0 {
		return false
	}
	pruned := structural.DeepCopy()
	return defaulting.PruneDefaults(pruned) == nil && !reflect.DeepEqual(structural, pruned)
}

func finds(s *apiextensions.JSONSchemaProps, rule func(*check.Errors, *field.Path, *apiextensions.JSONSchemaProps)) bool {
	var e check.Errors
	rule(&e, nil, s)
	return len(e) > 0
}

// mustBeStructural tells whether the schemas of a definition are held to be structural.
func (s scope) mustBeStructural(spec *apiextensions.CustomResourceDefinitionSpec) bool {
	return !s.may.nonStructural || spec.PreserveUnknownFields == nil || !*spec.PreserveUnknownFields || hasDefaults(spec) || hasExtensions(spec)
}

// hasExtensions tells whether schemas say what only structural ones can.
func hasExtensions(spec *apiextensions.CustomResourceDefinitionSpec) (has bool) {
	for _, schema := range schemasOf(spec) {
		walk(schema, func(p *apiextensions.JSONSchemaProps) {
			has = has || p.XEmbeddedResource || p.XPreserveUnknownFields != nil || p.XIntOrString || len(p.XListMapKeys) > 0 || p.XListType != nil || len(p.XValidations) > 0
		})
	}
	return has
}
