package crd

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/warning"

	"clipper.dev/clipper/internal/api"
)

// A schema is what a version's objects must be like. Its parts are made when they are first needed.
type schema struct {
	parts func() (*parts, error)
	scale *apiextensionsv1.CustomResourceSubresourceScale
}

type parts struct {
	structural        *structuralschema.Structural
	validator, status schemavalidation.SchemaValidator
	rules             func() *cel.Validator // compiled at the first write
}

// fieldless is the schema of a version that there isn't.
var fieldless = &schema{parts: func() (*parts, error) { return &parts{}, nil }}

func newSchema(d *definition, v *apiextensionsv1.CustomResourceDefinitionVersion) *schema {
	s := &schema{parts: sync.OnceValues(func() (*parts, error) { return makeParts(d, v) })}
	if v.Subresources != nil {
		s.scale = v.Subresources.Scale
	}
	return s
}

func makeParts(d *definition, v *apiextensionsv1.CustomResourceDefinitionVersion) (*parts, error) {
	props := &apiextensions.JSONSchemaProps{Type: "object"}
	if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
		var err error
		if props, err = internalSchema(v.Schema); err != nil {
			return nil, err
		}
	}
	p := &parts{}
	var err error
	if p.structural, err = structuralschema.NewStructural(props); err != nil {
		return nil, fmt.Errorf("the schema of %s in version %s is not structural: %w", d.Name, v.Name, err)
	}
	if d.Spec.PreserveUnknownFields {
		p.structural.XPreserveUnknownFields = true
	}
	if p.validator, _, err = schemavalidation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("make a validator of %s in version %s: %w", d.Name, v.Name, err)
	}
	var statusProps *apiextensions.JSONSchemaProps
	if found, ok := props.Properties["status"]; ok {
		statusProps = &found
	}
	if p.status, _, err = schemavalidation.NewSchemaValidator(statusProps); err != nil {
		return nil, fmt.Errorf("make a validator of the status of %s in version %s: %w", d.Name, v.Name, err)
	}
	p.rules = sync.OnceValue(func() *cel.Validator { return cel.NewValidator(p.structural, true, celconfig.PerCallLimit) })
	return p, nil
}

// coerce prunes what came from outside and sets its defaults.
func (s *schema) coerce(u *unstructured.Unstructured, look bool) ([]string, error) {
	p, err := s.parts()
	if err != nil {
		return nil, err
	}
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: look})
	if err != nil {
		return nil, err
	}
	apiVersion, kind := u.GetAPIVersion(), u.GetKind()
	fieldErr, more := objectmeta.CoerceWithOptions(nil, u.Object, p.structural, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: look})
	if fieldErr != nil {
		return nil, fieldErr
	}
	unknown = append(unknown, more...)
	unknown = append(unknown, pruning.PruneWithOptions(u.Object, p.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: look})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, p.structural)
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	if found {
		if err := objectmeta.SetObjectMeta(u.Object, meta); err != nil {
			return nil, err
		}
	}
	defaulting.Default(u.Object, p.structural)
	return unknown, nil
}

// settle prunes and defaults what comes from storage or a conversion, whose metadata is known to be sound.
func (s *schema) settle(u *unstructured.Unstructured) error {
	p, err := s.parts()
	if err != nil {
		return err
	}
	metadata, apiVersion, kind := u.Object["metadata"], u.GetAPIVersion(), u.GetKind()
	if err, _ := objectmeta.CoerceWithOptions(nil, u.Object, p.structural, false, objectmeta.CoerceOptions{DropInvalidFields: true}); err != nil {
		return err
	}
	pruning.Prune(u.Object, p.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, p.structural)
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	if metadata != nil {
		u.Object["metadata"] = metadata
	}
	defaulting.Default(u.Object, p.structural)
	return nil
}

// dropNothings drops nulls that an apply patch has made where values may not be null, as reading the object would.
func (s *schema) dropNothings(u *unstructured.Unstructured) {
	if p, err := s.parts(); err == nil {
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, p.structural)
	}
}

// fill sets defaults in what an apply patch has made. It could name no unknown fields but below what keeps them, where fields that are known have
// theirs pruned. Nothings in metadata become what they are read as.
func (s *schema) fill(u *unstructured.Unstructured) {
	if meta, found, err := objectmeta.GetObjectMeta(u.Object, false); err == nil && found {
		_ = objectmeta.SetObjectMeta(u.Object, meta) // what has been read can be written
	}
	if p, err := s.parts(); err == nil {
		pruning.Prune(u.Object, p.structural, true)
		defaulting.Default(u.Object, p.structural)
	}
}

// broken is the error of a schema that can't be used.
func broken(err error) field.ErrorList {
	return field.ErrorList{field.InternalError(nil, err)}
}

// What is of another kind, as faults tell, isn't held against the schema, but its embedded objects and lists are looked at.

func (s *schema) validate(u *unstructured.Unstructured, namespaced bool, faults field.ErrorList) field.ErrorList {
	p, err := s.parts()
	if err != nil {
		return broken(err)
	}
	errs := faults
	if len(faults) == 0 {
		errs = append(schemavalidation.ValidateCustomResource(nil, u.Object, p.validator), s.checkScale(u, true)...)
	}
	errs = append(errs, objectmeta.Validate(nil, u.Object, p.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, p.structural, u.Object)...)
	if p.rules() != nil && len(faults) == 0 && unsound(apivalidation.ValidateObjectMetaAccessor(u, namespaced, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))) {
		return append(errs, unchecked)
	}
	return p.withRules(errs, u, nil)
}

func (s *schema) validateUpdate(u, old *unstructured.Unstructured, faults field.ErrorList) field.ErrorList {
	p, err := s.parts()
	if err != nil {
		return broken(err)
	}
	pair := common.NewCorrelatedObject(u.Object, old.Object, &model.Structural{Structural: p.structural})
	errs := faults
	if len(faults) == 0 {
		errs = schemavalidation.ValidateCustomResourceUpdate(nil, u.Object, old.Object, p.validator, schemavalidation.WithRatcheting(pair))
		errs = append(errs, s.checkScale(u, true)...)
	}
	errs = append(errs, objectmeta.Validate(nil, u.Object, p.structural, false)...)
	errs = append(errs, p.listErrors(u, old)...)
	return p.withRules(errs, u, old, cel.WithRatcheting(pair))
}

func (s *schema) validateStatus(u, old *unstructured.Unstructured, faults field.ErrorList) field.ErrorList {
	p, err := s.parts()
	if err != nil {
		return broken(err)
	}
	pair := common.NewCorrelatedObject(u.Object, old.Object, &model.Structural{Structural: p.structural})
	errs := faults
	if status, ok := u.Object["status"]; ok && len(faults) == 0 {
		errs = schemavalidation.ValidateCustomResourceUpdate(field.NewPath("status"), status, old.Object["status"], p.status, schemavalidation.WithRatcheting(pair.Key("status")))
	}
	if len(faults) == 0 {
		errs = append(errs, s.checkScale(u, false)...)
	}
	errs = append(errs, p.listErrors(u, old)...)
	return p.withRules(errs, u, old, cel.WithRatcheting(pair))
}

// listErrors are duplicates in lists, unless there were some before.
func (p *parts) listErrors(u, old *unstructured.Unstructured) field.ErrorList {
	if len(listtype.ValidateListSetsAndMaps(nil, p.structural, old.Object)) > 0 {
		return nil
	}
	return listtype.ValidateListSetsAndMaps(nil, p.structural, u.Object)
}

var unchecked = field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")

// unsound tells whether an object has faults because of which its rules can't be asked.
func unsound(errs field.ErrorList) bool {
	return slices.ContainsFunc(errs, func(err *field.Error) bool {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
		return false
	})
}

// withRules adds what the schema's rules say, where the object is sound enough for them to be asked.
func (p *parts) withRules(errs field.ErrorList, u, old *unstructured.Unstructured, opts ...cel.Option) field.ErrorList {
	rules := p.rules()
	if rules == nil {
		return errs
	}
	if unsound(errs) {
		return append(errs, unchecked)
	}
	var before any
	if old != nil {
		before = old.Object
	}
	var passed ratcheted
	found, _ := rules.Validate(warning.WithWarningRecorder(context.Background(), &passed), nil, p.structural, u.Object, before, celconfig.RuntimeCELCostBudget, opts...)
	return slices.Concat(errs, field.ErrorList(passed), found)
}

// ratcheted records what the rules let pass because it was so before.
type ratcheted field.ErrorList

// AddWarning implements warning.Recorder.
func (r *ratcheted) AddWarning(_, text string) {
	*r = append(*r, &field.Error{Type: api.Ratcheted, Detail: text})
}

// checkScale checks the values that the scale subresource shows.
func (s *schema) checkScale(u *unstructured.Unstructured, spec bool) (errs field.ErrorList) {
	if s.scale == nil {
		return nil
	}
	replicas := func(path string) {
		n, _, err := unstructured.NestedInt64(u.Object, fieldsOf(path)...)
		switch at := field.NewPath(path); {
		case err != nil:
			errs = append(errs, field.Invalid(at, n, err.Error()))
		case n < 0:
			errs = append(errs, field.Invalid(at, n, "should be a non-negative integer"))
		case n > math.MaxInt32:
			errs = append(errs, field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32)))
		}
	}
	if spec {
		replicas(s.scale.SpecReplicasPath)
	}
	replicas(s.scale.StatusReplicasPath)
	if path := s.scale.LabelSelectorPath; path != nil {
		text, _, err := unstructured.NestedString(u.Object, fieldsOf(*path)...)
		if err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*path), text, err.Error()))
		}
	}
	return errs
}

// fieldsOf splits a path in dot notation.
func fieldsOf(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }
