package apiserver

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxFaults is how many faults of an object are told: the library words them in a time that grows with the square of their number.
const maxFaults = 1000

// invalid is the answer to an object that has faults.
func invalid(gk schema.GroupKind, name string, faults field.ErrorList) error {
	if more := len(faults) - maxFaults; more > 0 {
		faults = append(faults[:maxFaults:maxFaults], field.Forbidden(field.NewPath("..."), fmt.Sprintf("%d more faults are not shown", more)))
	}
	return apierrors.NewInvalid(gk, name, faults)
}
