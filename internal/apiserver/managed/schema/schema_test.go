package schema

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

func TestTheBuiltInTypesKnowListsKeysAndDefaults(t *testing.T) {
	types, kinds, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	parser := &typed.Parser{}
	parser.Schema.Types = types
	pod := parser.Type(kinds[schema.GroupVersionKind{Version: "v1", Kind: "Pod"}])
	v, err := pod.FromYAML(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	set, err := v.ToFieldSet()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"f:apiVersion":{},"f:kind":{},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:ports":{` +
		`"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}`
	if got, _ := set.ToJSON(); string(got) != want {
		t.Errorf("got %s", got)
	}
	for _, gvk := range []schema.GroupVersionKind{
		{Group: "autoscaling", Version: "v1", Kind: "Scale"}, {Group: "policy", Version: "v1", Kind: "Eviction"},
		{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, {Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"},
	} {
		if kinds[gvk] == "" {
			t.Errorf("%s has no type", gvk)
		}
	}
}

func TestWhatIsEncodedComesBack(t *testing.T) {
	types, kinds, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(types, kinds)
	if err != nil || string(again) != builtIn {
		t.Errorf("got %d bytes of %d, %v", len(again), len(builtIn), err)
	}
}

func TestCorruptTypesAreRefused(t *testing.T) {
	for cut := 1; cut < len(builtIn); cut += 997 {
		if _, _, err := Decode(builtIn[:cut]); err == nil {
			t.Errorf("the first %d bytes are taken for all", cut)
		}
	}
}

func BenchmarkBuiltIn(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := BuiltIn(); err != nil {
			b.Fatal(err)
		}
	}
}
