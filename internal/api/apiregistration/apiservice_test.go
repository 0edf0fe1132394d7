package apiregistration

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	registrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func TestAWriteOfTheStatusLeavesTheRestAsItWas(t *testing.T) {
	old := &registrationv1.APIService{}
	old.Labels, old.Finalizers = map[string]string{"a": "b"}, []string{"x/y"}
	old.Spec.VersionPriority = 1
	changed := &registrationv1.APIService{}
	changed.Labels, changed.Annotations = map[string]string{"was": "changed"}, map[string]string{"c": "d"}
	changed.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod"}}
	changed.Status.Conditions = []registrationv1.APIServiceCondition{{Type: registrationv1.Available}}
	want := old.DeepCopy()
	want.Status = changed.Status
	APIServices.Status.PrepareUpdate(changed, old)
	if !equality.Semantic.DeepEqual(changed, want) {
		t.Errorf("got %+v, want %+v", changed, want)
	}
}
