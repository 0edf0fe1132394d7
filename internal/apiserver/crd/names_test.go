package crd

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func named(plural, kind string, short ...string) *definition {
	names := apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: plural[:len(plural)-1], Kind: kind, ListKind: kind + "List", ShortNames: short}
	return &definition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".example.com"},
		Spec:       apiextensionsv1.CustomResourceDefinitionSpec{Group: "example.com", Names: names},
	}
}

func accepted(d *definition) *definition {
	d.Status.AcceptedNames = d.Spec.Names
	return d
}

func TestNamesAreGrantedOnce(t *testing.T) {
	for _, c := range []struct {
		name           string
		others         []*definition
		d              *definition
		reason, detail string
	}{
		{"free names", nil, named("foos", "Foo", "f"), "NoConflicts", "no conflicts found"},
		{"a kind in use", []*definition{accepted(named("bars", "Foo"))}, named("foos", "Foo"), "ListKindConflict", `"FooList" is already in use`},
		{"a short name in use", []*definition{accepted(named("bars", "Bar", "f"))}, named("foos", "Foo", "f"), "ShortNamesConflict", `"f" is already in use`},
		{"a plural that is another's short name", []*definition{accepted(named("bars", "Bar", "foos"))}, named("foos", "Foo"), "PluralConflict", `"foos" is already in use`},
		{"its own names", []*definition{accepted(named("foos", "Foo", "f"))}, accepted(named("foos", "Foo", "f")), "NoConflicts", "no conflicts found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := nextStatus(c.d, c.others)
			got := apihelpers.FindCRDCondition(next, apiextensionsv1.NamesAccepted)
			if got.Reason != c.reason || got.Message != c.detail {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
			if established := apihelpers.IsCRDConditionTrue(next, apiextensionsv1.Established); established != (c.reason == "NoConflicts") {
				t.Errorf("established: %v", established)
			}
		})
	}
}

func TestAnEstablishedDefinitionStaysSo(t *testing.T) {
	d := accepted(named("foos", "Foo"))
	apihelpers.SetCRDCondition(d, condition{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, Reason: "InitialNamesAccepted"})
	d.Spec.Names.ShortNames = []string{"b"}
	next := nextStatus(d, []*definition{accepted(named("bars", "Bar", "b"))})
	if apihelpers.IsCRDConditionTrue(next, apiextensionsv1.NamesAccepted) || !apihelpers.IsCRDConditionTrue(next, apiextensionsv1.Established) {
		t.Errorf("conditions are %v", next.Status.Conditions)
	}
}
