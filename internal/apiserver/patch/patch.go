package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// maxOperations bounds a JSON patch, maxCopiedBytes what its copies add up to, and maxItems a list in a strategic merge patch, whose items
// are looked for one by one.
const (
	maxOperations  = 10000
	maxCopiedBytes = 3 << 20
	maxItems       = 10000
)

func init() { jsonpatch.AccumulatedCopySizeLimit = maxCopiedBytes } // the library has it for the process

// Apply patches original, which has its TypeMeta, and writes the result into out, an empty object of the same type.
// strict are unknown and duplicate fields, looked for if look is set; shown is the patch, or what it led to, as errors
// about them show it.
func Apply(kind types.PatchType, original runtime.Object, patch []byte, out runtime.Object, look bool) (strict []error, shown string, err error) {
	switch kind {
	case types.JSONPatchType, types.MergePatchType:
		return applyText(kind, original, patch, out, look)
	case types.StrategicMergePatchType:
		return applyStrategic(original, patch, out, look)
	}
	return nil, "", fmt.Errorf("unknown Content-Type header for patch: %v", kind)
}

func applyText(kind types.PatchType, original runtime.Object, patch []byte, out runtime.Object, look bool) ([]error, string, error) {
	before, err := json.Marshal(original)
	if err != nil {
		return nil, "", fmt.Errorf("encode the object to be patched: %w", err)
	}
	operate := mergeText
	if kind == types.JSONPatchType {
		operate = operateText
	}
	after, strict, err := operate(before, patch, look)
	if err != nil {
		return nil, "", err
	}
	known, err := checkKind(after, original, out)
	if err != nil {
		return nil, "", Invalid(string(after), err)
	}
	if !known { // nothing is taken from it, not even the name, which is complained of then
		return nil, "", nil
	}
	unknown, err := kjson.UnmarshalStrict(after, out)
	if err != nil {
		return nil, "", Invalid(string(after), err)
	}
	if look {
		strict = append(strict, unknown...)
	}
	return strict, string(after), nil
}

// checkKind refuses what a patch has made another kind's. What has no version any more isn't known.
func checkKind(after []byte, original, out runtime.Object) (known bool, err error) {
	got, err := serializer.DefaultMetaFactory.Interpret(after)
	if err != nil {
		return false, err
	}
	if _, text := out.(*unstructured.Unstructured); text {
		return true, nil
	}
	want := original.GetObjectKind().GroupVersionKind()
	if got.Kind == "" {
		got.Kind = want.Kind
	}
	if got.Version != "" && *got != want {
		return false, runtime.NewNotRegisteredErrForKind(schemeName, *got)
	}
	return got.Version != "", nil
}

// schemeName is how upstream's messages call all that it knows.
const schemeName = "pkg/runtime/scheme.go:111"

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func operateText(before, patch []byte, look bool) (after []byte, strict []error, err error) {
	if look {
		var ops []operation
		if strict, err = kjson.UnmarshalStrict(patch, &ops); err != nil {
			text := strings.ReplaceAll(err.Error(), "patch.operation", "handlers.jsonPatchOp") // the name of upstream's type
			return nil, nil, apierrors.NewBadRequest("error decoding patch: " + text)
		}
		for i, e := range strict {
			strict[i] = fmt.Errorf("json patch %v", e) //nolint:errorlint // a text for people
		}
	}
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(ops)))
	}
	if after, err = ops.Apply(before); err != nil {
		return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return after, strict, nil
}

func mergeText(before, patch []byte, look bool) (after []byte, strict []error, err error) {
	if look {
		fields := map[string]any{}
		if strict, err = kjson.UnmarshalStrict(patch, &fields); err != nil {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
	}
	after, err = jsonpatch.MergePatch(before, patch)
	if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return after, strict, err
}

func applyStrategic(original runtime.Object, patch []byte, out runtime.Object, look bool) ([]error, string, error) {
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(original)
	if err != nil {
		return nil, "", fmt.Errorf("convert the object to be patched: %w", err)
	}
	fields := map[string]any{}
	strict, err := kjson.UnmarshalStrict(patch, &fields)
	if err != nil {
		return nil, "", apierrors.NewBadRequest(err.Error())
	}
	if !look {
		strict = nil
	}
	if long(fields) {
		return nil, "", apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum items of a list in a strategic merge patch is %d", maxItems))
	}
	shown := fmt.Sprintf("%+v", fields)
	after, err := strategicpatch.StrategicMergeMapPatch(before, fields, out)
	if err != nil {
		return nil, "", strategicError(err)
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, out, look)
	if err == nil {
		return strict, shown, nil
	}
	unknown, ok := runtime.AsStrictDecodingError(err)
	if !ok {
		return nil, "", Invalid(shown, err)
	}
	return append(strict, unknown.Errors()...), shown, nil
}

// long tells whether a list in a value is too long.
func long(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, each := range v {
			if long(each) {
				return true
			}
		}
	case []any:
		return len(v) > maxItems || slices.ContainsFunc(v, long)
	}
	return false
}

// strategicError tells mistakes of the patch's author from others.
func strategicError(err error) error {
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return err
}

// Invalid is the answer to a patch whose result is no object of its kind.
func Invalid(patch string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), patch, err.Error())})
}
