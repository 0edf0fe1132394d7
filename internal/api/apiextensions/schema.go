package apiextensions

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// rootFields are what the root of a schema may have beside the status subresource, by their Go names, as the error tells them.
var rootFields = []string{
	"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength", "Pattern", "MaxItems",
	"MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
}

var schemaTypes = []string{"array", "boolean", "integer", "number", "object", "string"}

func checkSchema(e *check.Errors, path *field.Path, v *apiextensions.CustomResourceValidation, status bool, s scope, version string) {
	if v == nil {
		return
	}
	var found check.Errors
	if schema := v.OpenAPIV3Schema; schema != nil {
		checkRoot(&found, path, schema, status)
		path := path.Child("openAPIV3Schema")
		var costs *costScope
		var err error
		if s.structural {
			costs, err = checkStructural(&found, path, schema, !s.may.unprunedDefault)
		}
		w := &schemaCheck{scope: s, keepCosts: s.unchanged[version]}
		problems := w.check(place{path: path, root: true, defaults: true, costs: costs}, schema)
		found.Add(problems.schema...)
		found.Add(problems.rules...)
		if err != nil && len(found) == 0 {
			found.Invalid(path, "", err.Error())
		}
		costs.checkTotal(&found, path)
	}
	if len(found) == 0 {
		if _, _, err := schemavalidation.NewSchemaValidator(v.OpenAPIV3Schema); err != nil {
			found.Invalidf(path, "", "error building validator: %v", err)
		}
	}
	e.Add(found...)
}

func checkRoot(e *check.Errors, path *field.Path, schema *apiextensions.JSONSchemaProps, status bool) {
	if status {
		value := reflect.ValueOf(schema).Elem()
		for i := range value.NumField() {
			name := value.Type().Field(i).Name
			if value.Field(i).IsZero() {
				continue
			}
			if name == "Type" && schema.Type != "object" {
				e.Invalid(path.Child("openAPIV3Schema.type"), schema.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`)
				break
			}
			if !slices.Contains(rootFields, name) {
				e.Invalidf(path.Child("openAPIV3Schema"), *schema, "only %v fields are allowed at the root of the schema if the status subresource is enabled", rootFields)
				break
			}
		}
	}
	if schema.Nullable {
		e.Forbidden(path.Child("openAPIV3Schema.nullable"), "nullable cannot be true at the root")
	}
}

// checkStructural returns what rules may cost, if the schema is sound, or why none can be made of it, which is told if nothing else is.
func checkStructural(e *check.Errors, path *field.Path, schema *apiextensions.JSONSchemaProps, prunedDefaults bool) (*costScope, error) {
	structural, err := structuralschema.NewStructural(schema)
	if err != nil {
		return nil, err
	}
	errs := structuralschema.ValidateStructural(path, structural)
	if len(errs) == 0 {
		if errs, err = defaulting.ValidateDefaults(context.Background(), path, structural, true, prunedDefaults); err != nil {
			errs = field.ErrorList{field.Invalid(path, "", err.Error())}
		}
	}
	e.Add(errs...)
	if len(errs) > 0 {
		return nil, nil
	}
	return rootCosts(schema), nil
}

// problems keeps errors about rules apart: they are looked for only where the schema itself is sound.
type problems struct{ schema, rules check.Errors }

func (p *problems) join(more problems) {
	p.schema.Add(more.schema...)
	p.rules.Add(more.rules...)
}

// place is where in a schema a check is.
type place struct {
	path     *field.Path
	root     bool
	defaults bool   // defaults are allowed
	why      string // they aren't
	meta     bool   // within apiVersion, kind or metadata of an object
	// loose is the outermost schema above whose values of two revisions can't be told to belong together; nil for none.
	loose *field.Path
	costs *costScope // nil where rules aren't looked at
}

func (p place) at(path *field.Path) place {
	p.path, p.root = path, false
	return p
}

// without is the place of a schema that only constrains values: rules have no place there.
func (p place) without(path *field.Path) place {
	p = p.at(path)
	p.costs = nil
	return p
}

func (p place) loosened() place {
	if p.loose == nil {
		p.loose = p.path
	}
	return p
}

// schemaCheck goes through one schema.
type schemaCheck struct {
	scope
	keepCosts bool // the schema is as it was: its rules may cost what they did
}

func (w *schemaCheck) check(p place, s *apiextensions.JSONSchemaProps) (out problems) {
	if s == nil {
		return out
	}
	if s.Type != "" && !w.may.unknownTypes && !slices.Contains(schemaTypes, s.Type) {
		out.schema.Add(field.NotSupported(p.path.Child("type"), s.Type, schemaTypes))
	}
	checkSupported(&out.schema, p, s)
	out.join(w.checkChildren(p, s))
	out.join(w.checkConstraints(p, s))
	if x := s.XPreserveUnknownFields; x != nil && !*x {
		out.schema.Invalid(p.path.Child("x-kubernetes-preserve-unknown-fields"), *x, "must be true or undefined")
	}
	checkMapType(&out.schema, p.path, s)
	w.checkListType(&out.schema, p.path, s)
	checkItemKeys(&out.schema, p.path, s)
	if !w.may.looseKeys {
		checkItems(&out.schema, p.path, s)
	}
	if len(s.XValidations) > 0 {
		checkRuleTexts(&out.schema, p.path, s)
		if len(out.schema) == 0 && p.costs != nil {
			w.checkRules(&out.rules, p, s)
		}
	}
	return out
}

// checkSupported refuses what JSON schemas have and structural ones don't.
func checkSupported(e *check.Errors, p place, s *apiextensions.JSONSchemaProps) {
	if s.Default != nil && !p.defaults {
		detail := "must not be set"
		if p.why != "" {
			detail += " " + p.why
		}
		e.Forbidden(p.path.Child("default"), detail)
	}
	for _, unsupported := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""}, {"additionalItems", s.AdditionalItems != nil}, {"patternProperties", len(s.PatternProperties) != 0},
		{"definitions", len(s.Definitions) != 0}, {"dependencies", s.Dependencies != nil}, {"$ref", s.Ref != nil},
	} {
		if unsupported.set {
			e.Forbidden(p.path.Child(unsupported.name), unsupported.name+" is not supported")
		}
	}
	if s.Type == "null" {
		e.Forbidden(p.path.Child("type"), "type cannot be set to null, use nullable as an alternative")
	}
	if s.Items != nil && len(s.Items.JSONSchemas) != 0 {
		e.Forbidden(p.path.Child("items"), "items must be a schema object and not an array")
	}
	if p.meta && s.XEmbeddedResource {
		e.Forbidden(p.path.Child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta")
	}
	if s.UniqueItems {
		e.Forbidden(p.path.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")
	}
}

// checkChildren descends into what a value consists of.
func (w *schemaCheck) checkChildren(p place, s *apiextensions.JSONSchemaProps) (out problems) {
	if more := s.AdditionalProperties; more != nil {
		if len(s.Properties) != 0 && (!more.Allows || more.Schema != nil) {
			out.schema.Forbidden(p.path.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive")
		}
		below := p.at(p.path.Child("additionalProperties"))
		if p.meta {
			below.defaults, below.why = false, "inside additionalProperties applying to object metadata"
		}
		below.costs = p.costs.values(more.Schema)
		out.join(w.check(below, more.Schema))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		from := p
		if !cel.MapIsCorrelatable(s.XMapType) {
			from = p.loosened()
		}
		below := from.at(p.path.Child("properties").Key(name))
		if (p.root || s.XEmbeddedResource) && (name == "metadata" || name == "kind" || name == "apiVersion") {
			below.meta = true
			if p.root {
				below.defaults, below.why = false, "in top-level "+name
			}
		}
		below.costs = p.costs.property(&property, name)
		out.join(w.check(below, &property))
	}
	if s.Items == nil {
		return out
	}
	from := p
	if s.XListType == nil || *s.XListType != "map" {
		from = p.loosened()
	}
	below := from.at(p.path.Child("items"))
	below.costs = p.costs.items(s.Items.Schema)
	out.join(w.check(below, s.Items.Schema))
	for i := range s.Items.JSONSchemas {
		one := from.at(p.path.Child("items").Index(i))
		one.costs = p.costs.items(&s.Items.JSONSchemas[i])
		out.join(w.check(one, &s.Items.JSONSchemas[i]))
	}
	return out
}

// checkConstraints descends into the schemas that only constrain values.
func (w *schemaCheck) checkConstraints(p place, s *apiextensions.JSONSchemaProps) (out problems) {
	out.join(w.check(p.without(p.path.Child("not")), s.Not))
	for _, group := range []struct {
		name string
		list []apiextensions.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range group.list {
			out.join(w.check(p.without(p.path.Child(group.name).Index(i)), &group.list[i]))
		}
	}
	for name, definition := range s.Definitions {
		out.join(w.check(p.without(p.path.Child("definitions").Key(name)), &definition))
	}
	for name, dependency := range s.Dependencies {
		out.join(w.check(p.without(p.path.Child("dependencies").Key(name)), dependency.Schema))
	}
	return out
}

func checkMapType(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	if s.XMapType == nil {
		return
	}
	requireType(e, path, s.Type, "object", "x-kubernetes-map-type")
	check.OneOf(e, path.Child("x-kubernetes-map-type"), *s.XMapType, "atomic", "granular")
}

func requireType(e *check.Errors, path *field.Path, have, want, extension string) {
	detail := fmt.Sprintf("must be %s if %s is specified", want, extension)
	switch have {
	case want:
	case "":
		e.Required(path.Child("type"), detail)
	default:
		e.Invalid(path.Child("type"), have, detail)
	}
}

func (w *schemaCheck) checkListType(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	if s.XListType == nil {
		return
	}
	if s.Type != "array" {
		requireType(e, path, s.Type, "array", "x-kubernetes-list-type")
	} else if !w.may.looseSets {
		checkSetItems(e, path, s)
	}
	check.OneOf(e, path.Child("x-kubernetes-list-type"), *s.XListType, "atomic", "set", "map")
}

// checkSetItems demands that the items of a set are owned as a whole.
func checkSetItems(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	if s.XListType == nil || *s.XListType != "set" || s.Items == nil || s.Items.Schema == nil {
		return
	}
	const detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
	item := s.Items.Schema
	if item.Type == "array" && item.XListType != nil && *item.XListType != "atomic" {
		e.Invalid(path.Child("items", "x-kubernetes-list-type"), item.XListType, detail)
	}
	if item.Type == "object" && (item.XMapType == nil || *item.XMapType != "atomic") {
		e.Invalid(path.Child("items", "x-kubernetes-map-type"), item.XListType, detail)
	}
}

// checkItemKeys checks by what the items of a list are told apart.
func checkItemKeys(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	isMap := s.XListType != nil && *s.XListType == "map"
	if len(s.XListMapKeys) > 0 && !isMap {
		const detail = "must be map if x-kubernetes-list-map-keys is non-empty"
		if s.XListType == nil {
			e.Required(path.Child("x-kubernetes-list-type"), detail)
		} else {
			e.Invalid(path.Child("x-kubernetes-list-type"), *s.XListType, detail)
		}
	}
	if isMap {
		checkMapKeys(e, path, s)
	}
}

// checkItems demands that the items of a set, or what tells those of a map apart, are there.
func checkItems(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	if s.Items == nil || s.Items.Schema == nil || s.XListType == nil || *s.XListType != "set" && *s.XListType != "map" {
		return
	}
	item := s.Items.Schema
	if item.Nullable {
		e.Forbidden(path.Child("items", "nullable"), "cannot be nullable when x-kubernetes-list-type is "+*s.XListType)
	}
	if *s.XListType == "set" {
		return
	}
	for _, key := range s.XListMapKeys {
		property, ok := item.Properties[key]
		if !ok {
			continue
		}
		at := path.Child("items", "properties").Key(key)
		if property.Default == nil && !slices.Contains(item.Required, key) {
			e.Required(at.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property")
		}
		if property.Nullable {
			e.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable")
		}
	}
}

func checkMapKeys(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	keys := path.Child("x-kubernetes-list-map-keys")
	if len(s.XListMapKeys) == 0 {
		e.Required(keys, "must not be empty if x-kubernetes-list-type is map")
	}
	switch {
	case s.Items == nil:
		e.Required(path.Child("items"), "must have a schema if x-kubernetes-list-type is map")
		return
	case s.Items.Schema == nil:
		e.Invalid(path.Child("items"), s.Items, "must only have a single schema if x-kubernetes-list-type is map")
		return
	case s.Items.Schema.Type != "object":
		e.Invalid(path.Child("items", "type"), s.Items.Schema.Type, "must be object if parent array's x-kubernetes-list-type is map")
		return
	}
	seen := map[string]bool{}
	for _, key := range s.XListMapKeys {
		property, ok := s.Items.Schema.Properties[key]
		if !ok {
			e.Invalid(keys, s.XListMapKeys, "entries must all be names of item properties")
		} else if property.Type == "array" || property.Type == "object" {
			e.Invalid(path.Child("items", "properties").Key(key).Child("type"), s.Items.Schema.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map")
		}
		if seen[key] {
			e.Invalid(keys, s.XListMapKeys, "must not contain duplicate entries")
		}
		seen[key] = true
	}
}
