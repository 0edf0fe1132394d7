package openapi

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store/storetest"
)

// addOn is the group that an add-on serves, upstream.
const addOn = "metrics.k8s.io"

// everything is what a server serves that serves all kinds of kube-apiserver.
func everything(t testing.TB) []apiserver.Served {
	t.Helper()
	var rows []*api.Resource
	for _, r := range api.Registered() {
		if r.Group != addOn {
			rows = append(rows, r)
		}
	}
	srv, err := apiserver.New(context.Background(), apiserver.Config{Store: storetest.New(t), Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	return srv.Served()
}

// upstream reads the document of kube-apiserver v1.36.3, which has no descriptions.
func upstream(t testing.TB) map[string]any {
	t.Helper()
	f, err := os.Open("testdata/upstream-v2.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.NewDecoder(z).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func asMap(t testing.TB, o any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// strip removes descriptions, but no fields of that name, and kinds of the add-on's group.
func strip(o any) any {
	switch o := o.(type) {
	case map[string]any:
		if _, ok := o["description"].(string); ok {
			delete(o, "description")
		}
		for k, v := range o {
			o[k] = strip(v)
		}
	case []any:
		for i, v := range o {
			o[i] = strip(v)
		}
		return slices.DeleteFunc(o, func(v any) bool {
			kind, _ := v.(map[string]any)
			return kind["group"] == addOn && kind["version"] != nil
		})
	}
	return o
}

// differences lists where two documents differ, at most a few.
func differences(path string, got, want any) []string {
	g, gok := got.(map[string]any)
	w, wok := want.(map[string]any)
	if !gok || !wok {
		if reflect.DeepEqual(got, want) {
			return nil
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		return []string{path + ": got " + string(a) + ", want " + string(b)}
	}
	keys := maps.Clone(g)
	maps.Copy(keys, w)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, differences(path+" "+k, g[k], w[k])...)
	}
	return out
}

func TestTheV2DocumentIsUpstreams(t *testing.T) {
	served := everything(t)
	doc, err := buildV2(containersOf(served), served, "1.36")
	if err != nil {
		t.Fatal(err)
	}
	got, want := strip(asMap(t, doc)).(map[string]any), upstream(t)
	gotPaths, wantPaths := got["paths"].(map[string]any), want["paths"].(map[string]any)
	for path, item := range gotPaths {
		if wantPaths[path] == nil {
			t.Errorf("%s is not upstream's", path)
			continue
		}
		for _, d := range differences(path, item, wantPaths[path]) {
			t.Error(d)
		}
	}
	for path := range wantPaths {
		if gotPaths[path] == nil {
			t.Errorf("%s is missing", path)
		}
	}
	t.Logf("%d of %d paths", len(gotPaths), len(wantPaths))
	for _, part := range []string{"definitions", "parameters"} {
		g, w := got[part].(map[string]any), want[part].(map[string]any)
		for name := range g {
			for _, d := range differences(part+" "+name, g[name], w[name]) {
				t.Error(d)
			}
		}
		t.Logf("%d of %d %s", len(g), len(w), part)
	}
	for _, part := range []string{"info", "security", "securityDefinitions", "swagger"} {
		for _, d := range differences(part, got[part], want[part]) {
			t.Error(d)
		}
	}
}
