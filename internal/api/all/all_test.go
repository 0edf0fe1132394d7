package all_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/api"
)

// A served resource as upstream's discovery tells it.
type served struct {
	Kind, Name, SingularName      string
	Namespaced                    bool
	Verbs, ShortNames, Categories []string
}

var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// What Clipper serves from elsewhere: the parts of the engine that define kinds.
var elsewhere = []string{"apiextensions.k8s.io", "apiregistration.k8s.io", "admissionregistration.k8s.io"}

func upstream(t *testing.T) map[string][]served {
	t.Helper()
	data, err := os.ReadFile("../testdata/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]served
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDiscovery compares the rows with what a kube-apiserver of the same version serves.
func TestDiscovery(t *testing.T) {
	ours := map[string]map[string]served{}
	for _, r := range api.Registered() {
		for _, v := range r.Versions {
			gv := "/api/" + v.Version
			if r.Group != "" {
				gv = "/apis/" + r.Group + "/" + v.Version
			}
			if ours[gv] == nil {
				ours[gv] = map[string]served{}
			}
			for name, s := range describe(r) {
				ours[gv][name] = s
			}
		}
	}
	for gv, want := range upstream(t) {
		if slices.ContainsFunc(elsewhere, func(g string) bool { return strings.Contains(gv, g) }) {
			continue
		}
		for _, w := range want {
			t.Run(strings.Trim(gv, "/")+"/"+w.Name, func(t *testing.T) {
				got, there := ours[gv][w.Name]
				if !there {
					t.Fatal("is not served")
				}
				if got.Kind != w.Kind || got.SingularName != w.SingularName || got.Namespaced != w.Namespaced {
					t.Errorf("is %+v, upstream %+v", got, w)
				}
				sameList(t, "verbs", got.Verbs, w.Verbs)
				sameList(t, "short names", got.ShortNames, w.ShortNames)
				sameList(t, "categories", got.Categories, w.Categories)
				delete(ours[gv], w.Name)
			})
		}
		for name := range ours[gv] {
			if !slices.ContainsFunc(want, func(w served) bool { return w.Name == name }) {
				t.Errorf("%s/%s is served here alone", gv, name)
			}
		}
	}
}

func sameList(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s are %v, upstream %v", what, got, want)
	}
}

// describe lists a row and its subresources by name.
func describe(r *api.Resource) map[string]served {
	verbs := r.Verbs
	if verbs == nil {
		verbs = allVerbs
	}
	out := map[string]served{
		r.Name: {Kind: r.Kind, Name: r.Name, SingularName: r.Singular, Namespaced: r.Namespaced, Verbs: verbs, ShortNames: r.ShortNames, Categories: r.Categories},
	}
	sub := func(name, kind string, verbs ...string) {
		out[r.Name+"/"+name] = served{Kind: kind, Name: r.Name + "/" + name, Namespaced: r.Namespaced, Verbs: verbs}
	}
	if r.Status != nil {
		sub("status", r.Kind, "get", "patch", "update")
	}
	if r.Scale != nil {
		sub("scale", "Scale", "get", "patch", "update")
	}
	for _, s := range r.Subresources {
		kind := r.Kind
		if s.GVK.Kind != "" {
			kind = s.GVK.Kind
		}
		sub(s.Name, kind, s.Verbs...)
	}
	connect := map[string]struct {
		kind  string
		verbs []string
	}{
		"log": {"", []string{"get"}}, "exec": {"PodExecOptions", []string{"create", "get"}}, "attach": {"PodAttachOptions", []string{"create", "get"}},
		"portforward": {"PodPortForwardOptions", []string{"create", "get"}}, "proxy": {r.Kind + "ProxyOptions", []string{"create", "delete", "get", "patch", "update"}},
	}
	for _, name := range r.Connect {
		c := connect[name]
		if c.kind == "" {
			c.kind = r.Kind
		}
		sub(name, c.kind, c.verbs...)
	}
	return out
}
