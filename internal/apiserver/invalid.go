package apiserver

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxFaults is how many faults of an object are told: the library words them in a time that grows with the square of their number.
const maxFaults = 1000

// maxFaultText is about how long they may be together: each may show a list that is as long as the body.
const maxFaultText = 1 << 20

// invalid is the answer to an object that has faults.
func invalid(gk schema.GroupKind, name string, faults field.ErrorList) error {
	told := 0
	for text := 0; told < min(len(faults), maxFaults) && text < maxFaultText; told++ {
		text += len(faults[told].Error())
	}
	if more := len(faults) - told; more > 0 {
		faults = append(faults[:told:told], field.Forbidden(field.NewPath("..."), fmt.Sprintf("%d more faults are not shown", more)))
	}
	return apierrors.NewInvalid(gk, name, faults)
}
