package managed_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver"
)

// tabs is the row of a custom resource whose list of ports is merged by the port.
func tabs(schema string) *api.Resource {
	return &api.Resource{
		Group: "example.com", Name: "tabs", Kind: "Tab", Prefix: "example.com/tabs", Status: &api.Status{},
		Versions: []api.Version{{
			Version: "v1", New: func() api.Object { return &unstructured.Unstructured{Object: map[string]any{}} },
			FromHub: func(o api.Object) (api.Object, error) { return o, nil },
			Schema:  func() ([]byte, error) { return []byte(schema), nil },
		}},
	}
}

func TestCustomResourcesAreMergedByTheirSchema(t *testing.T) {
	for name, test := range map[string]struct {
		schema string
		merged int
	}{
		"by key": {`{"type":"object","properties":{"spec":{"type":"object","properties":{"ports":{"type":"array","x-kubernetes-list-type":"map",
			"x-kubernetes-list-map-keys":["port"],"items":{"type":"object","required":["port"],"properties":{"port":{"type":"integer"}}}}}}}}`, 2},
		"as a whole": {``, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := newTracker(t)
			w := apiserver.Tracked{Resource: tabs(test.schema), Version: "v1"}
			var live api.Object
			for i, manager := range []string{"one", "two"} {
				patch := []byte("apiVersion: example.com/v1\nkind: Tab\nmetadata: {name: t}\nspec: {ports: [{port: " + string(rune('1'+i)) + "}]}\n")
				next, err := tracker.Apply(w, live, patch, manager, true)
				if err != nil {
					t.Fatal(err)
				}
				next.SetUID("1")
				live = next
			}
			got, _, _ := unstructured.NestedSlice(live.(*unstructured.Unstructured).Object, "spec", "ports")
			if len(got) != test.merged {
				t.Errorf("got %v\n%s", got, owners(live))
			}
		})
	}
}

func TestAnUpdateOfACustomResourceIsTracked(t *testing.T) {
	tracker := newTracker(t)
	w := apiserver.Tracked{Resource: tabs(""), Version: "v1"}
	tab := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Tab", "metadata": map[string]any{"name": "t"},
		"spec": map[string]any{"a": int64(1)}, "status": map[string]any{"b": int64(1)},
	}}
	tracker.Update(w, nil, tab, "creator")
	expect(t, tab, `creator Update {"f:spec":{".":{},"f:a":{}}}`)
	tab.SetUID("1")
	next := tab.DeepCopy()
	next.Object["status"] = map[string]any{"b": int64(2)}
	w.Subresource = "status"
	tracker.Update(w, tab, next, "controller")
	expect(t, next, `controller Update status {"f:status":{"f:b":{}}}`, `creator Update {"f:spec":{".":{},"f:a":{}}}`)
}
