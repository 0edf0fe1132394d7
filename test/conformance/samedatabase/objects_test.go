package samedatabase

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/kubernetes/test/integration/etcd"
)

const namespace = "same"

// server is a side that runs.
type server struct {
	side
	process *process
	client  dynamic.Interface
	kinds   *discovery.DiscoveryClient
}

func newServer(t *testing.T, s side, p *process) *server {
	t.Helper()
	client, err := dynamic.NewForConfig(s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(s.config(t))
	if err != nil {
		t.Fatal(err)
	}
	return &server{side: s, process: p, client: client, kinds: kinds}
}

// listable returns every resource that the server lists, in every version.
func (s *server) listable(t *testing.T) map[schema.GroupVersionResource]metav1.APIResource {
	t.Helper()
	_, lists, err := s.kinds.ServerGroupsAndResources()
	if err != nil {
		t.Fatalf("%s: discovery: %v", s.name, err)
	}
	out := map[schema.GroupVersionResource]metav1.APIResource{}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		if gv.Group == "metrics.k8s.io" { // of a program beside kube-apiserver, which Clipper needs none for
			continue
		}
		for _, r := range l.APIResources {
			if r.Name == "componentstatuses" { // it is found, not stored, and it depends on who runs where
				continue
			}
			if !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "list") {
				out[gv.WithResource(r.Name)] = r
			}
		}
	}
	return out
}

func (s *server) resource(gvr schema.GroupVersionResource, namespaced bool) dynamic.ResourceInterface {
	if namespaced {
		return s.client.Resource(gvr).Namespace(namespace)
	}
	return s.client.Resource(gvr)
}

// fixture is an object of upstream's storage test.
type fixture struct {
	gvr        schema.GroupVersionResource
	namespaced bool
	object     *unstructured.Unstructured
	key        string                  // where it is stored
	stored     schema.GroupVersionKind // as what
}

// create makes the namespace, the custom resources' definitions and an object of every kind that the server knows.
func (s *server) create(t *testing.T) []fixture {
	t.Helper()
	s.mustCreate(t, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, false, fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, namespace))
	s.mustCreate(t, schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, true, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}`)
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	for _, crd := range etcd.GetCustomResourceDefinitionData() {
		crd.APIVersion, crd.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
		data, err := json.Marshal(crd)
		if err != nil {
			t.Fatal(err)
		}
		s.mustCreate(t, definitions, false, string(data))
		waitFor(t, crd.Name+" is established", func() bool {
			return established(s, definitions, crd.Name)
		})
	}
	known := s.listable(t)
	data := etcd.GetEtcdStorageDataForNamespace(namespace)
	var out []fixture
	for _, gvr := range slices.SortedFunc(maps.Keys(data), func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) }) {
		d := data[gvr]
		r, ok := known[gvr]
		if !ok {
			continue // alpha, or not served by default
		}
		for _, p := range d.Prerequisites {
			s.mustCreate(t, p.GvrData, known[p.GvrData].Namespaced, p.Stub)
		}
		f := fixture{gvr: gvr, namespaced: r.Namespaced, key: d.ExpectedEtcdPath, stored: gvr.GroupVersion().WithKind(r.Kind)}
		if d.ExpectedGVK != nil {
			f.stored = *d.ExpectedGVK
		}
		f.object = s.mustCreate(t, gvr, r.Namespaced, withType(t, d.Stub, f.gvr.GroupVersion().WithKind(r.Kind)))
		if f.object != nil {
			out = append(out, f)
		}
	}
	return out
}

func withType(t *testing.T, stub string, gvk schema.GroupVersionKind) string {
	t.Helper()
	var o unstructured.Unstructured
	if err := json.Unmarshal([]byte(stub), &o.Object); err != nil {
		t.Fatalf("read %s: %v", stub, err)
	}
	o.SetGroupVersionKind(gvk)
	data, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (s *server) mustCreate(t *testing.T, gvr schema.GroupVersionResource, namespaced bool, stub string) *unstructured.Unstructured {
	t.Helper()
	o, _, err := unstructured.UnstructuredJSONScheme.Decode([]byte(stub), nil, nil)
	if err != nil {
		t.Fatalf("read %s: %v", stub, err)
	}
	made, err := s.resource(gvr, namespaced).Create(t.Context(), o.(*unstructured.Unstructured), metav1.CreateOptions{})
	if err != nil {
		t.Errorf("%s: create %v: %v", s.name, gvr, err)
		return nil
	}
	return made
}

func established(s *server, gvr schema.GroupVersionResource, name string) bool {
	o, err := s.client.Resource(gvr).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return false
	}
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	ready := slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Established" && m["status"] == "True"
	})
	if !ready {
		return false
	}
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	version, _, _ := unstructured.NestedString(versions[0].(map[string]any), "name")
	custom := schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
	_, err = s.client.Resource(custom).List(context.Background(), metav1.ListOptions{})
	return err == nil
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited for long, but it never was so that %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// all reads every object of one resource.
func (s *server) all(t *testing.T, gvr schema.GroupVersionResource) map[types.NamespacedName]unstructured.Unstructured {
	t.Helper()
	list, err := s.client.Resource(gvr).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Errorf("%s: list %v: %v", s.name, gvr, err)
		return nil
	}
	out := map[types.NamespacedName]unstructured.Unstructured{}
	for _, o := range list.Items {
		out[types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}] = o
	}
	return out
}

// compare holds what both servers read against each other. Objects that are written meanwhile are read again.
func compare(t *testing.T, first, second *server, gvr schema.GroupVersionResource) {
	t.Helper()
	var complaints []string
	for range 10 {
		a, b := first.all(t, gvr), second.all(t, gvr)
		var moving bool
		complaints, moving = differences(a, b)
		if !moving && len(complaints) == 0 {
			return
		}
		if !moving {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, c := range complaints {
		t.Errorf("%v: %s (-%s +%s)", gvr, c, first.name, second.name)
	}
}

func differences(a, b map[types.NamespacedName]unstructured.Unstructured) (complaints []string, moving bool) {
	names := maps.Clone(a)
	maps.Copy(names, b)
	for name := range names {
		x, inA := a[name]
		y, inB := b[name]
		if !inA || !inB {
			complaints, moving = append(complaints, fmt.Sprintf("%s: only one has it", name)), true
			continue
		}
		if x.GetResourceVersion() != y.GetResourceVersion() {
			complaints, moving = append(complaints, fmt.Sprintf("%s: versions %s and %s", name, x.GetResourceVersion(), y.GetResourceVersion())), true
			continue
		}
		if d := cmp.Diff(x.Object, y.Object); d != "" {
			complaints = append(complaints, fmt.Sprintf("%s differs:\n%s", name, d))
		}
	}
	return complaints, moving
}

// label patches an object, and returns it as the server answers.
func (s *server) label(t *testing.T, f fixture, value string) *unstructured.Unstructured {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"same.example.com/by":%q}}}`, value)
	o, err := s.resource(f.gvr, f.namespaced).Patch(t.Context(), f.object.GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Errorf("%s: update %v %s: %v", s.name, f.gvr, f.object.GetName(), err)
	}
	return o
}

// replace writes an object back as it was read, with a label: everything that the other server stored is decoded, validated and encoded.
func (s *server) replace(t *testing.T, f fixture, value string) {
	t.Helper()
	r := s.resource(f.gvr, f.namespaced)
	for {
		o, err := r.Get(t.Context(), f.object.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Errorf("%s: get %v %s: %v", s.name, f.gvr, f.object.GetName(), err)
			return
		}
		before := o.DeepCopy()
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["same.example.com/by"] = value
		o.SetLabels(labels)
		after, err := r.Update(t.Context(), o, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			t.Errorf("%s: update %v %s: %v", s.name, f.gvr, f.object.GetName(), err)
			return
		}
		if d := cmp.Diff(withoutNoise(before), withoutNoise(after)); d != "" {
			t.Errorf("%s: an update of %v %s changed more than its label:\n%s", s.name, f.gvr, f.object.GetName(), d)
		}
		return
	}
}

// withoutNoise drops what every update changes.
func withoutNoise(o *unstructured.Unstructured) map[string]any {
	out := runtime.DeepCopyJSON(o.Object)
	for _, path := range [][]string{{"metadata", "labels"}, {"metadata", "managedFields"}, {"metadata", "resourceVersion"}, {"metadata", "generation"}} {
		unstructured.RemoveNestedField(out, path...)
	}
	return out
}

func (s *server) delete(t *testing.T, f fixture) {
	t.Helper()
	zero := int64(0)
	err := s.resource(f.gvr, f.namespaced).Delete(t.Context(), f.object.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &zero})
	if err != nil && !apierrors.IsNotFound(err) { // one object may be a kind's in several versions
		t.Errorf("%s: delete %v %s: %v", s.name, f.gvr, f.object.GetName(), err)
	}
}

// storedAs reads the kind of what etcd holds: of protobuf, of JSON, or of what is encrypted none.
func storedAs(t *testing.T, value []byte) (schema.GroupVersionKind, bool) {
	t.Helper()
	if bytes.HasPrefix(value, []byte("k8s:enc:")) {
		return schema.GroupVersionKind{}, false
	}
	var typ runtime.TypeMeta
	if rest, ok := bytes.CutPrefix(value, []byte("k8s\x00")); ok {
		var unknown runtime.Unknown
		if err := unknown.Unmarshal(rest); err != nil {
			t.Fatalf("read a stored value: %v", err)
		}
		typ = unknown.TypeMeta
	} else if err := json.Unmarshal(value, &typ); err != nil {
		t.Fatalf("read a stored value: %v", err)
	}
	return schema.FromAPIVersionAndKind(typ.APIVersion, typ.Kind), true
}
