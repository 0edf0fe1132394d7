package openapi

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestASchemaHasNoReferencesLeft(t *testing.T) {
	custom := `{"type":"object"}`
	d := New(Config{Served: few(&custom)})
	s, err := d.Schema(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	owner := s.Properties["metadata"].Properties["ownerReferences"].Items
	if owner == nil || !owner.Schema.Properties["uid"].Type.Contains("string") {
		t.Errorf("owners are %v", owner)
	}
	if s, err := d.Schema(schema.GroupVersionKind{Group: "none", Version: "v1", Kind: "None"}); s != nil || err != nil {
		t.Errorf("of no kind: %v %v", s, err)
	}
}
