package crd

import (
	"encoding/json"
	"slices"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/apiextensions"
)

// FuzzSchemas validates definitions with arbitrary schemas, and arbitrary objects by those that are sound. What an object has
// become must stay so.
func FuzzSchemas(f *testing.F) {
	all := api.Registered()
	row := all[slices.IndexFunc(all, func(r *api.Resource) bool { return r.Name == "customresourcedefinitions" })]
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"default":2},"s":{"type":"string","pattern":"^(a+)+$","maxLength":9}}}}}`, `{"spec":{"s":"aaa","x":1}}`},
		{`{"type":"object","properties":{"l":{"type":"array","maxItems":5,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}}}}`, `{"l":[{"k":"a"},{"k":"a"}]}`},
		{`{"type":"object","properties":{"m":{"type":"object","maxProperties":9,"additionalProperties":{"type":"string","maxLength":5,"nullable":true}}},"x-kubernetes-validations":[{"rule":"!has(self.m) || self.m.all(k, self.m[k] != 'x')","messageExpression":"'no ' + self.m['k']"}]}`, `{"m":{"k":"x","n":null}}`},
		{`{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"i":{"x-kubernetes-int-or-string":true},"e":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}}}`, `{"i":"5","e":{"apiVersion":"v1","kind":"Pod","metadata":{"name":5}}}`},
		{`{"type":"object","properties":{"d":{"type":"string","format":"date-time"}},"oneOf":[{"required":["d"]},{"not":{"required":["d"]}}]}`, `{"d":"2020-01-01T00:00:00Z"}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, schemaText, objectText string) {
		var props apiextensionsv1.JSONSchemaProps
		if json.Unmarshal([]byte(schemaText), &props) != nil {
			return
		}
		d := &definition{}
		d.Name = "foos.example.com"
		d.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.ClusterScoped, Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", Kind: "Foo", ListKind: "FooList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &props}}},
		}
		row.Default(d)
		if len(row.Validate(d)) > 0 {
			return
		}
		u := &unstructured.Unstructured{}
		if json.Unmarshal([]byte(objectText), &u.Object) != nil || u.Object == nil {
			return
		}
		u.SetAPIVersion("example.com/v1")
		u.SetKind("Foo")
		s := newSchema(d, &d.Spec.Versions[0])
		if _, err := s.coerce(u, true); err != nil {
			return
		}
		once, err := json.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		errs := s.validate(u, false, nil)
		s.validateUpdate(u, u.DeepCopy(), nil)
		if unknown, err := s.coerce(u, true); err != nil || len(unknown) > 0 {
			t.Errorf("the second time %v are unknown, %v", unknown, err)
		}
		if twice, err := json.Marshal(u.Object); err != nil || string(twice) != string(once) {
			t.Errorf("it changes: %s\n%s", once, twice)
		}
		if len(errs) == 0 {
			if err := s.settle(u); err != nil {
				t.Error(err)
			}
		}
	})
}
