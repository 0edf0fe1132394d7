package resource

import (
	"encoding/json"
	"fmt"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/dynamic-resource-allocation/cel"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// validateSelectors compiles the expressions that choose devices. Those that are stored already may use what newer versions brought.
func validateSelectors(selectors []resourcev1.DeviceSelector, at *field.Path, stored bool) check.Errors {
	return validateList(selectors, resourcev1.DeviceSelectorsMaxSize, at, func(s *resourcev1.DeviceSelector, at *field.Path) (e check.Errors) {
		if s.CEL == nil {
			e.Required(at.Child("cel"), "")
			return e
		}
		return validateExpression(s.CEL.Expression, at.Child("cel", "expression"), stored)
	})
}

func validateExpression(expression string, at *field.Path, stored bool) (e check.Errors) {
	if len(expression) > resourcev1.CELSelectorExpressionMaxLength {
		e.TooLong(at, resourcev1.CELSelectorExpressionMaxLength)
		return e
	}
	kind := environment.NewExpressions
	if stored {
		kind = environment.StoredExpressions
	}
	result := cel.GetCompiler(cel.Features{EnableConsumableCapacity: true}).CompileCELExpression(expression, cel.Options{EnvType: &kind})
	switch err := result.Error; {
	case err == nil && result.MaxCost > resourcev1.CELSelectorExpressionMaxCost:
		e.Forbidden(at, "too complex, exceeds cost limit")
	case err == nil:
	case err.Type == apiservercel.ErrorTypeRequired:
		e.Required(at, err.Detail)
	case err.Type == apiservercel.ErrorTypeInvalid:
		e.Invalid(at, expression, err.Detail)
	case err.Type == apiservercel.ErrorTypeInternal:
		e.Internal(at, err)
	default:
		e.Internal(at, fmt.Errorf("unsupported error type: %w", err))
	}
	return e
}

func validateConfiguration(c *resourcev1.DeviceConfiguration, at *field.Path, stored bool) (e check.Errors) {
	at = at.Child("opaque")
	if c.Opaque == nil {
		e.Required(at, "")
		return e
	}
	e.Add(core.ValidateCSIDriverName(c.Opaque.Driver, at.Child("driver"))...)
	most := resourcev1.OpaqueParametersMaxLength
	if stored {
		most = unlimited
	}
	e.Add(validateJSON(c.Opaque.Parameters, most, at.Child("parameters"))...)
	return e
}

// validateJSON requires a JSON object.
func validateJSON(data runtime.RawExtension, most int, at *field.Path) (e check.Errors) {
	if len(data.Raw) == 0 {
		e.Required(at, "")
		return e
	}
	if most != unlimited && len(data.Raw) > most {
		e.TooLong(at, most)
		return e
	}
	var value any
	if err := json.Unmarshal(data.Raw, &value); err != nil {
		e.Invalid(at, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))
		return e
	}
	switch value.(type) {
	case nil:
		e.Required(at, "")
	case map[string]any:
	default:
		e.Invalid(at, "<value omitted>", "must be a valid JSON object")
	}
	return e
}
