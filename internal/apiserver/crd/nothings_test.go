package crd

import (
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

func TestAnApplyPatchIsPrunedBelowWhatKeepsUnknownFields(t *testing.T) {
	keep := true
	d := &definition{}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
			Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {
				Type: "object", XPreserveUnknownFields: &keep,
				Properties: map[string]apiextensionsv1.JSONSchemaProps{"known": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"x": {Type: "integer"}}}},
			}},
		}},
	}}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"free": "kept", "known": map[string]any{"x": int64(1), "y": int64(2)}}}}
	newSchema(d, &d.Spec.Versions[0]).fill(u)
	if want := map[string]any{"spec": map[string]any{"free": "kept", "known": map[string]any{"x": int64(1)}}}; !reflect.DeepEqual(u.Object, want) {
		t.Errorf("left: %v", u.Object)
	}
}

func TestAKindThatGoesIsShownWithoutWrites(t *testing.T) {
	d := &definition{}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, SelectableFields: []apiextensionsv1.SelectableField{{JSONPath: ".spec.x"}}}}
	s := serve(d, nil, newConversionMetrics(prometheus.NewRegistry()))
	if all := s.row.ShownVerbs(); len(all) != 8 || all[0] != "delete" {
		t.Errorf("shown are %v", all)
	}
	if got := s.row.Versions[0].Selectable; !reflect.DeepEqual(got, []string{"spec.x"}) {
		t.Errorf("selectable are %v", got)
	}
	s.terminating.Store(true)
	if left := s.row.ShownVerbs(); !reflect.DeepEqual(left, []string{"delete", "deletecollection", "get", "list", "watch"}) {
		t.Errorf("shown are %v", left)
	}
	_, err := s.row.Versions[0].Own.Hooks.BeginCreate(t.Context(), nil, &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "new"}}}, false)
	if !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}
