package apiserver_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
)

// TestDiscoveryIsUpstreams compares what a server tells of all kinds with what kube-apiserver v1.36.3 tells.
func TestDiscoveryIsUpstreams(t *testing.T) {
	raw, err := os.ReadFile("../api/testdata/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]metav1.APIResource
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	client := newFixture(t, api.Registered()...).clients(t, "").Discovery()
	_, lists, err := client.ServerGroupsAndResources() // aggregated
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]metav1.APIResource{}
	for _, list := range lists {
		path := "/apis/" + list.GroupVersion
		if list.GroupVersion == "v1" {
			path = "/api/v1"
		}
		aggregated := map[string]metav1.APIResource{}
		for _, r := range list.APIResources {
			aggregated[r.Name] = r
		}
		plain := &metav1.APIResourceList{}
		body := must(client.RESTClient().Get().AbsPath(path).DoRaw(context.Background()))(t)
		if err := json.Unmarshal(body, plain); err != nil {
			t.Fatal(err)
		}
		got[path] = map[string]metav1.APIResource{}
		for _, r := range plain.APIResources {
			got[path][r.Name] = r
			if a := aggregated[r.Name]; !reflect.DeepEqual(shown(r, false), shown(a, false)) {
				t.Errorf("%s %s: plain discovery tells %+v, aggregated %+v", path, r.Name, r, a)
			}
		}
	}
	for path, resources := range want {
		for _, w := range resources {
			g, served := got[path][w.Name]
			delete(got[path], w.Name)
			switch {
			case served && !reflect.DeepEqual(shown(g, true), shown(w, true)):
				t.Errorf("%s %s: got %+v, want %+v", path, w.Name, shown(g, true), shown(w, true))
			case !served:
				t.Errorf("%s %s is missing", path, w.Name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(got[path])) {
			t.Errorf("%s %s is served here alone", path, name)
		}
	}
}

// shown is a resource as upstream's facts tell it. Only plain discovery tells all of it.
func shown(r metav1.APIResource, all bool) metav1.APIResource {
	out := metav1.APIResource{Name: r.Name, Namespaced: r.Namespaced, Kind: r.Kind}
	if all {
		out.SingularName, out.Group, out.Version = r.SingularName, r.Group, r.Version
	}
	out.Verbs = slices.Sorted(slices.Values(r.Verbs))
	out.ShortNames = slices.Sorted(slices.Values(r.ShortNames))
	out.Categories = slices.Sorted(slices.Values(r.Categories))
	return out
}
