package crd

import (
	"reflect"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestNothingIsKeptOnlyWhereItMayBe(t *testing.T) {
	d := &definition{}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
			Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"status": {Type: "object"}, "spec": {Type: "object", Nullable: true}},
		}},
	}}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": nil, "status": nil}}
	newSchema(d, &d.Spec.Versions[0]).dropNothings(u)
	if want := map[string]any{"spec": nil}; !reflect.DeepEqual(u.Object, want) {
		t.Errorf("left: %v", u.Object)
	}
}
