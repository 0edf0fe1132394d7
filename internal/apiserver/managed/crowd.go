package managed

import (
	"bytes"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

// maxCrowd is how many items one map or list may have for the library to tell who owns them, and how many fields an entry that a client
// has made up may name: the library's sets take a time that grows with the square of what is put in without order.
const maxCrowd = 20000

func tooCrowded() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum items of a map or list in an apply patch is %d", maxCrowd))
}

// crowded tells whether a map or list in a value is too large.
func crowded(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && crowded(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if crowded(v.Field(i)) {
				return true
			}
		}
	case reflect.Map:
		if v.Len() > maxCrowd {
			return true
		}
		if simple(v.Type().Elem().Kind()) {
			return false
		}
		for it := v.MapRange(); it.Next(); {
			if crowded(it.Value()) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		if simple(v.Type().Elem().Kind()) {
			return v.Len() > maxCrowd && v.Type().Elem().Kind() != reflect.Uint8
		}
		if v.Len() > maxCrowd {
			return true
		}
		for i := range v.Len() {
			if crowded(v.Index(i)) {
				return true
			}
		}
	}
	return false
}

// simple tells the kinds that hold no items.
func simple(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Complex128 || k == reflect.String
}

// dropInvented takes entries from an object that name more fields than anybody tells by hand, unless the live object has them. The write is
// then one that says nothing of owners.
func dropInvented(live, changed api.Object) {
	var known []metav1.ManagedFieldsEntry
	for i, e := range changed.GetManagedFields() {
		if e.FieldsV1 == nil {
			continue
		}
		raw := e.FieldsV1.GetRawBytes()
		if len(raw) < 3*maxCrowd || bytes.Count(raw, []byte("{}")) <= maxCrowd {
			continue
		}
		if known == nil && live != nil {
			known = live.GetManagedFields()
		}
		if i >= len(known) || known[i].FieldsV1 == nil || !bytes.Equal(known[i].FieldsV1.GetRawBytes(), raw) {
			changed.SetManagedFields(nil)
			return
		}
	}
}
