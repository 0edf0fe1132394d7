package apiextensions

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/webhooks"
)

// Definitions are checked in upstream's internal form: what all versions have in common is one level up there, and so the paths of
// errors are ("spec.validation" instead of "spec.versions[0].schema").
type definition = apiextensions.CustomResourceDefinition

// scope is what one check of a definition goes by.
type scope struct {
	old *definition // nil at creation
	may tolerance
	// structural schemas are demanded.
	structural bool
	// unchanged are the versions whose schema is as it was: the costs of their rules aren't held against them any more.
	unchanged map[string]bool
	// rules and messages are the CEL expressions that were there before.
	rules, messages map[string]bool
}

func internal(e *check.Errors, d *apiextensionsv1.CustomResourceDefinition) *definition {
	out := &definition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d.DeepCopy(), out, nil); err != nil {
		e.Internal(field.NewPath("spec"), err)
		return nil
	}
	return out
}

func validateDefinition(d *apiextensionsv1.CustomResourceDefinition) (e check.Errors) {
	in := internal(&e, d)
	if in == nil {
		return e
	}
	for _, name := range []struct{ field, text string }{{"generateName", d.GenerateName}, {"name", d.Name}} {
		if name.text != "" && name.text != in.Spec.Names.Plural+"."+in.Spec.Group {
			e.Invalid(field.NewPath("metadata", name.field), name.text, `must be spec.names.plural+"."+spec.group`)
		}
	}
	e.Add(checkSpec(in, scope{})...)
	e.Add(checkAround(in, scope{})...)
	return e
}

func validateDefinitionUpdate(d, old *apiextensionsv1.CustomResourceDefinition) (e check.Errors) {
	in, before := internal(&e, d), internal(&e, old)
	if in == nil || before == nil {
		return e
	}
	s := scope{old: before, may: toleranceOf(&before.Spec), unchanged: map[string]bool{}, rules: map[string]bool{}, messages: map[string]bool{}}
	for _, v := range in.Spec.Versions {
		now, err := apiextensions.GetSchemaForVersion(in, v.Name)
		then, oldErr := apiextensions.GetSchemaForVersion(before, v.Name)
		if err == nil && oldErr == nil && equality.Semantic.DeepEqual(now, then) {
			s.unchanged[v.Name] = true
		}
	}
	for _, schema := range schemasOf(&before.Spec) {
		walk(schema, func(p *apiextensions.JSONSchemaProps) {
			for _, r := range p.XValidations {
				s.rules[r.Rule] = true
				s.messages[r.MessageExpression] = true
			}
		})
	}
	e.Add(checkSpec(in, s)...)
	spec := field.NewPath("spec")
	if apiextensions.IsCRDConditionTrue(before, apiextensions.Established) {
		e.Unchanged(spec.Child("scope"), in.Spec.Scope, before.Spec.Scope)
		e.Unchanged(spec.Child("names", "kind"), in.Spec.Names.Kind, before.Spec.Names.Kind)
	}
	e.Unchanged(spec.Child("group"), in.Spec.Group, before.Spec.Group)
	e.Unchanged(spec.Child("names", "plural"), in.Spec.Names.Plural, before.Spec.Names.Plural)
	e.Add(checkAround(in, s)...)
	return e
}

func validateDefinitionStatus(d, _ *apiextensionsv1.CustomResourceDefinition) (e check.Errors) {
	if in := internal(&e, d); in != nil {
		checkNames(&e, field.NewPath("status", "acceptedNames"), &in.Status.AcceptedNames)
	}
	return e
}

// checkSpec is what creations and updates have in common.
func checkSpec(d *definition, s scope) (e check.Errors) {
	spec, path := &d.Spec, field.NewPath("spec")
	s.structural = s.mustBeStructural(spec)
	switch {
	case spec.Group == "":
		e.Required(path.Child("group"), "")
	case len(validation.IsDNS1123Subdomain(spec.Group)) > 0:
		e.Invalid(path.Child("group"), spec.Group, strings.Join(validation.IsDNS1123Subdomain(spec.Group), ","))
	case !strings.Contains(spec.Group, "."):
		e.Invalid(path.Child("group"), spec.Group, "should be a domain with at least one dot")
	}
	if spec.Scope == "" {
		e.Required(path.Child("scope"), "")
	} else {
		check.OneOf(&e, path.Child("scope"), spec.Scope, apiextensions.ClusterScoped, apiextensions.NamespaceScoped)
	}
	if spec.PreserveUnknownFields != nil && *spec.PreserveUnknownFields && hasDefaults(spec) {
		e.Invalid(path.Child("preserveUnknownFields"), true, "must be false in order to use defaults in the schema")
	}
	checkVersions(&e, path, spec, s)
	for _, name := range []struct{ field, value string }{
		{"plural", spec.Names.Plural}, {"singular", spec.Names.Singular}, {"kind", spec.Names.Kind}, {"listKind", spec.Names.ListKind},
	} {
		e.NonEmpty(path.Child("names", name.field), name.value)
	}
	checkNames(&e, path.Child("names"), &spec.Names)
	version := ""
	if len(spec.Versions) > 0 {
		version = spec.Versions[0].Name
	}
	checkSchema(&e, path.Child("validation"), spec.Validation, anyStatus(spec), s, version)
	checkSubresources(&e, path.Child("subresources"), spec.Subresources)
	for i := range spec.AdditionalPrinterColumns {
		checkColumn(&e, path.Child("additionalPrinterColumns").Index(i), &spec.AdditionalPrinterColumns[i])
	}
	if len(spec.SelectableFields) > 0 {
		if spec.Validation == nil {
			e.Invalid(path.Child("selectableFields"), "", "may only be set when validations.schema is included")
		} else {
			checkSelectable(&e, path, spec.SelectableFields, spec.Validation, s.keptSelectable("", spec.SelectableFields))
		}
	}
	if spec.PreserveUnknownFields != nil && *spec.PreserveUnknownFields && spec.Conversion != nil && spec.Conversion.Strategy != apiextensions.NoneConverter {
		e.Invalid(path.Child("conversion", "strategy"), spec.Conversion.Strategy, "must be None if spec.preserveUnknownFields is true")
	}
	checkConversion(&e, path.Child("conversion"), spec.Conversion, s)
	return e
}

// checkAround is what both check after the spec.
func checkAround(d *definition, s scope) (e check.Errors) {
	spec, path := &d.Spec, field.NewPath("spec")
	checkNames(&e, field.NewPath("status", "acceptedNames"), &d.Status.AcceptedNames)
	checkStoredVersions(&e, d)
	checkApproval(&e, d, s.old)
	if spec.PreserveUnknownFields != nil && *spec.PreserveUnknownFields && (s.old == nil || s.old.Spec.PreserveUnknownFields == nil || !*s.old.Spec.PreserveUnknownFields) {
		e.Invalid(path.Child("preserveUnknownFields"), spec.PreserveUnknownFields, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead")
	}
	return e
}

func checkVersions(e *check.Errors, path *field.Path, spec *apiextensions.CustomResourceDefinitionSpec, s scope) {
	pruned := spec.PreserveUnknownFields == nil || !*spec.PreserveUnknownFields
	storage, seen, unique := 0, map[string]bool{}, true
	for i := range spec.Versions {
		v := &spec.Versions[i]
		at := path.Child("versions").Index(i)
		if absent := !hasSchema(spec, v); absent && !s.may.absentSchemas {
			e.Required(at.Child("schema", "openAPIV3Schema"), "")
		} else if absent && pruned && v.Served {
			e.Required(at.Child("schema", "openAPIV3Schema"), "because otherwise all fields are pruned")
		}
		if v.Storage {
			storage++
		}
		unique = unique && !seen[v.Name]
		seen[v.Name] = true
		if errs := validation.IsDNS1035Label(v.Name); len(errs) > 0 {
			e.Invalid(at.Child("name"), v.Name, strings.Join(errs, ","))
		}
		checkVersion(e, at, v, spec, s)
	}
	if !unique {
		e.Invalid(path.Child("versions"), spec.Versions, "must contain unique version names")
	}
	if storage != 1 {
		e.Invalid(path.Child("versions"), spec.Versions, "must have exactly one version marked as storage version")
	}
	if spec.Version != "" {
		if errs := validation.IsDNS1035Label(spec.Version); len(errs) > 0 {
			e.Invalid(path.Child("version"), spec.Version, strings.Join(errs, ","))
		}
	}
}

func checkVersion(e *check.Errors, path *field.Path, v *apiextensions.CustomResourceDefinitionVersion, spec *apiextensions.CustomResourceDefinitionSpec, s scope) {
	if w := v.DeprecationWarning; w != nil {
		checkWarning(e, path.Child("deprecationWarning"), v.Deprecated, *w)
	}
	status := spec.Subresources != nil && spec.Subresources.Status != nil || v.Subresources != nil && v.Subresources.Status != nil
	checkSchema(e, path.Child("schema"), v.Schema, status, s, v.Name)
	checkSubresources(e, path.Child("subresources"), v.Subresources)
	for i := range v.AdditionalPrinterColumns {
		checkColumn(e, path.Child("additionalPrinterColumns").Index(i), &v.AdditionalPrinterColumns[i])
	}
	if len(v.SelectableFields) == 0 {
		return
	}
	schema := v.Schema
	if schema == nil {
		schema = spec.Validation
	}
	if schema == nil || schema.OpenAPIV3Schema == nil {
		e.Invalid(path.Child("selectableFields"), "", "may only be set when `version.schema.openAPIV3Schema` is not included")
		return
	}
	checkSelectable(e, path, v.SelectableFields, schema, s.keptSelectable(v.Name, v.SelectableFields))
}

func checkWarning(e *check.Errors, path *field.Path, deprecated bool, text string) {
	if !deprecated {
		e.Invalid(path, &text, "can only be set for deprecated versions")
		return
	}
	if len(text) > 256 {
		e.Invalid(path, &text, "must be <= 256 characters long")
	}
	if text == "" {
		e.Invalid(path, &text, "must not be an empty string")
	}
	for i, r := range text {
		if !unicode.IsPrint(r) {
			e.Invalidf(path, &text, "must only contain printable UTF-8 characters; non-printable character found at index %d", i)
			break
		}
	}
	if !utf8.ValidString(text) {
		e.Invalid(path, &text, "must only contain printable UTF-8 characters")
	}
}

func checkNames(e *check.Errors, path *field.Path, n *apiextensions.CustomResourceDefinitionNames) {
	label := func(at *field.Path, value, checked, hint string) {
		if errs := validation.IsDNS1035Label(checked); value != "" && len(errs) > 0 {
			e.Invalid(at, value, hint+strings.Join(errs, ","))
		}
	}
	const mixed = "may have mixed case, but should otherwise match: "
	label(path.Child("plural"), n.Plural, n.Plural, "")
	label(path.Child("singular"), n.Singular, n.Singular, "")
	label(path.Child("kind"), n.Kind, strings.ToLower(n.Kind), mixed)
	label(path.Child("listKind"), n.ListKind, strings.ToLower(n.ListKind), mixed)
	for i, name := range n.ShortNames {
		if errs := validation.IsDNS1035Label(name); len(errs) > 0 {
			e.Invalid(path.Child("shortNames").Index(i), name, strings.Join(errs, ","))
		}
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		e.Invalid(path.Child("listKind"), n.ListKind, "kind and listKind may not be the same")
	}
	for i, category := range n.Categories {
		if errs := validation.IsDNS1035Label(category); len(errs) > 0 {
			e.Invalid(path.Child("categories").Index(i), category, strings.Join(errs, ","))
		}
	}
}

func checkStoredVersions(e *check.Errors, d *definition) {
	path := field.NewPath("status", "storedVersions")
	stored := d.Status.StoredVersions
	if len(stored) == 0 {
		e.Invalid(path, stored, "must have at least one stored version")
		return
	}
	left := map[string]int{}
	for i, v := range stored {
		left[v] = i
	}
	for _, v := range d.Spec.Versions {
		if _, there := left[v.Name]; v.Storage && !there {
			e.Invalid(path, stored, "must have the storage version "+v.Name)
		}
		delete(left, v.Name)
	}
	for v, i := range left {
		e.Invalidf(path.Index(i), v, "missing from spec.versions; %[1]s was previously a storage version, and must remain in spec.versions "+
			"until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)
	}
}

// checkApproval guards the groups of the Kubernetes community.
func checkApproval(e *check.Errors, d, old *definition) {
	if !apihelpers.IsProtectedCommunityGroup(d.Spec.Group) {
		return
	}
	state, reason := apihelpers.GetAPIApprovalState(d.Annotations)
	if old != nil {
		if before, _ := apihelpers.GetAPIApprovalState(old.Annotations); before == state {
			return
		}
	}
	path := field.NewPath("metadata", "annotations").Key(apiextensionsv1.KubeAPIApprovedAnnotation)
	switch state {
	case apihelpers.APIApproved, apihelpers.APIApprovalBypassed:
	case apihelpers.APIApprovalMissing:
		e.Required(path, reason)
	default:
		e.Invalid(path, d.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation], reason)
	}
}

func checkConversion(e *check.Errors, path *field.Path, c *apiextensions.CustomResourceConversion, s scope) {
	if c == nil {
		return
	}
	if c.Strategy == "" {
		e.Required(path.Child("strategy"), "")
	} else {
		check.OneOf(e, path.Child("strategy"), c.Strategy, apiextensions.NoneConverter, apiextensions.WebhookConverter)
	}
	if c.Strategy != apiextensions.WebhookConverter {
		const misplaced = "should not be set when strategy is not set to Webhook"
		if c.WebhookClientConfig != nil {
			e.Forbidden(path.Child("webhookClientConfig"), misplaced)
		}
		if len(c.ConversionReviewVersions) > 0 {
			e.Forbidden(path.Child("conversionReviewVersions"), misplaced)
		}
		return
	}
	at := path.Child("webhookClientConfig")
	switch cc := c.WebhookClientConfig; {
	case cc == nil:
		e.Required(at, "required when strategy is set to Webhook")
	case (cc.URL == nil) == (cc.Service == nil):
		e.Required(at, "exactly one of url or service is required")
	case cc.URL != nil:
		e.Add(webhooks.URL(at.Child("url"), *cc.URL)...)
	default:
		e.Add(webhooks.Service(at.Child("service"), cc.Service.Namespace, cc.Service.Name, cc.Service.Path, cc.Service.Port)...)
	}
	if cc := c.WebhookClientConfig; cc != nil && len(cc.CABundle) > 0 && !s.toleratesBundle() {
		e.Add(webhooks.Bundle(at.Child("caBundle"), cc.CABundle)...)
	}
	checkReviewVersions(e, path.Child("conversionReviewVersions"), c.ConversionReviewVersions, s.may.reviewVersions)
}

// toleratesBundle tells whether a broken bundle is accepted: until the definition is established, and where it was broken before.
func (s scope) toleratesBundle() bool {
	if s.old == nil || !apiextensions.IsCRDConditionTrue(s.old, apiextensions.Established) {
		return true
	}
	c := s.old.Spec.Conversion
	if c == nil || c.WebhookClientConfig == nil || len(c.WebhookClientConfig.CABundle) == 0 {
		return false
	}
	return len(webhooks.Bundle(nil, c.WebhookClientConfig.CABundle)) > 0
}

func isKnownReview(version string) bool { return version == "v1" || version == "v1beta1" }

func checkReviewVersions(e *check.Errors, path *field.Path, versions []string, mayBeUnknown bool) {
	if len(versions) == 0 {
		e.Required(path, "")
		return
	}
	seen, known := map[string]bool{}, mayBeUnknown
	for i, v := range versions {
		if seen[v] {
			e.Invalid(path.Index(i), v, "duplicate version")
			continue
		}
		seen[v] = true
		e.Messages(path.Index(i), v, validation.IsDNS1035Label(v))
		known = known || isKnownReview(v)
	}
	if !known {
		e.Invalid(path, versions, "must include at least one of v1, v1beta1")
	}
}

func hasDefaults(spec *apiextensions.CustomResourceDefinitionSpec) (has bool) {
	for _, schema := range schemasOf(spec) {
		walk(schema, func(p *apiextensions.JSONSchemaProps) { has = has || p.Default != nil })
	}
	return has
}
