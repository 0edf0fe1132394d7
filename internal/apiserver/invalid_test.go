package apiserver

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestOfManyFaultsTheFirstAreTold(t *testing.T) {
	faults := make(field.ErrorList, 200_000)
	for i := range faults {
		faults[i] = field.Required(field.NewPath(fmt.Sprint("f", i)), "")
	}
	err := invalid(schema.GroupKind{Kind: "K"}, "n", faults)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "f999: Required value") || !strings.Contains(err.Error(), "199000 more faults are not shown") {
		t.Errorf("got %.300s", err)
	}
	if faults[maxFaults].Field != "f1000" {
		t.Error("the list was changed")
	}
}
