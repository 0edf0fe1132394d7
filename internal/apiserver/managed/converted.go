package managed

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// scalarTypes are written as a string or a number although they are structs, and their schemas allow more than that.
var scalarTypes = map[reflect.Type]bool{
	reflect.TypeFor[metav1.Time](): true, reflect.TypeFor[metav1.MicroTime](): true,
	reflect.TypeFor[resource.Quantity](): true, reflect.TypeFor[intstr.IntOrString](): true,
}

// equalConverted compares values of a type that writes itself.
func equalConverted(e *value.TypeReflectCacheEntry, l, r reflect.Value) bool {
	if l.CanAddr() && r.CanAddr() {
		switch a := l.Addr().Interface().(type) {
		case *metav1.Time:
			return sameMoment(a.Time, r.Addr().Interface().(*metav1.Time).Time, time.Second)
		case *metav1.MicroTime:
			return sameMoment(a.Time, r.Addr().Interface().(*metav1.MicroTime).Time, time.Microsecond)
		case *intstr.IntOrString:
			return a.String() == r.Addr().Interface().(*intstr.IntOrString).String() && a.Type == r.Addr().Interface().(*intstr.IntOrString).Type
		}
	}
	a, errA := e.ToUnstructured(l)
	b, errB := e.ToUnstructured(r)
	return errA == nil && errB == nil && reflect.DeepEqual(a, b)
}

// sameMoment compares times as they are written, to a precision.
func sameMoment(a, b time.Time, precision time.Duration) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() == b.IsZero()
	}
	return a.UTC().Truncate(precision).Equal(b.UTC().Truncate(precision))
}
