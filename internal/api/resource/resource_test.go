package resource

import (
	"encoding/json"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
)

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return out
}

func expect(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	var all []string
	for _, e := range errs {
		all = append(all, e.Error())
	}
	got := strings.Join(all, "; ")
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func create(r *api.Resource, o api.Object) field.ErrorList {
	if r.Default != nil {
		r.Default(o)
	}
	return r.Validate(o)
}

func TestClaims(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"one device of a class":           {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c"}}]}}`, ""},
		"no choice":                       {`{"devices":{"requests":[{"name":"a"}]}}`, "exactly one of `exactly` or `firstAvailable` is required"},
		"a request twice":                 {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c"}},{"name":"a","exactly":{"deviceClassName":"c"}}]}}`, `spec.devices.requests[1]: Duplicate value: "a"`},
		"a count of all":                  {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c","allocationMode":"All","count":2}}]}}`, "must not be specified when allocationMode is 'All'"},
		"a selector that isn't an answer": {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c","selectors":[{"cel":{"expression":"1"}}]}}]}}`, "must evaluate to bool"},
		"a selector of attributes":        {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c","selectors":[{"cel":{"expression":"device.driver == 'd'"}}]}}]}}`, ""},
		"a constraint on nothing":         {`{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c"}}],"constraints":[{"requests":["b"],"matchAttribute":"d/e"}]}}`, "must be the name of a request in the claim"},
		"a constraint on an alternative":  {`{"devices":{"requests":[{"name":"a","firstAvailable":[{"name":"b","deviceClassName":"c"}]}],"constraints":[{"requests":["a/b"],"matchAttribute":"d/e"}]}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, create(ResourceClaims, decode[resourcev1.ResourceClaim](t, `{"spec":`+c.spec+`}`)), c.want)
		})
	}
}

func TestAnAllocationStays(t *testing.T) {
	const spec = `"spec":{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c"}}]}}`
	const one = `{` + spec + `,"status":{"allocation":{"devices":{"results":[{"request":"a","driver":"d","pool":"p","device":"x"}]}},"devices":[{"driver":"d","pool":"p","device":"x"}]}}`
	const other = `{` + spec + `,"status":{"allocation":{"devices":{"results":[{"request":"a","driver":"d","pool":"p","device":"y"}]}}}}`
	old := decode[resourcev1.ResourceClaim](t, one)
	expect(t, ResourceClaims.Status.ValidateUpdate(decode[resourcev1.ResourceClaim](t, other), old), "status.allocation: Invalid value")
	gone := decode[resourcev1.ResourceClaim](t, one)
	gone.Status.Allocation = nil
	ResourceClaims.Status.PrepareUpdate(gone, old)
	if gone.Status.Devices != nil {
		t.Error("the state of a device outlived its allocation")
	}
	expect(t, ResourceClaims.Status.ValidateUpdate(gone, old), "")
}

func TestSlices(t *testing.T) {
	const pool = `"driver":"d","pool":{"name":"p","resourceSliceCount":1}`
	for name, c := range map[string]struct{ spec, want string }{
		"devices of a node":        {`{` + pool + `,"nodeName":"n","devices":[{"name":"a","attributes":{"v":{"version":"1.2.3"}}}]}`, ""},
		"devices of nowhere":       {`{` + pool + `}`, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"},
		"devices of two places":    {`{` + pool + `,"nodeName":"n","allNodes":true}`, "but multiple fields are set"},
		"a version of two numbers": {`{` + pool + `,"allNodes":true,"devices":[{"name":"a","attributes":{"v":{"version":"1.2"}}}]}`, "must be a string compatible with semver.org spec 2.0.0"},
		"a policy without sharing": {`{` + pool + `,"allNodes":true,"devices":[{"name":"a","capacity":{"m":{"value":"1","requestPolicy":{}}}}]}`, "allowMultipleAllocations must be true"},
		"a step of nothing":        {`{` + pool + `,"allNodes":true,"devices":[{"name":"a","allowMultipleAllocations":true,"capacity":{"m":{"value":"9","requestPolicy":{"default":"1","validRange":{"min":"1","step":"0"}}}}}]}`, "must be greater than zero"},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, create(ResourceSlices, decode[resourcev1.ResourceSlice](t, `{"spec":`+c.spec+`}`)), c.want)
		})
	}
}
