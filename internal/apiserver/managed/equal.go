package managed

import (
	"bytes"
	"reflect"

	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// equal compares two values of one Go type as the API shows them.
func equal(e *value.TypeReflectCacheEntry, l, r reflect.Value) bool {
	if e.CanConvertToUnstructured() {
		return equalConverted(e, l, r)
	}
	switch l.Kind() {
	case reflect.String:
		return l.String() == r.String()
	case reflect.Bool:
		return l.Bool() == r.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return l.Int() == r.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return l.Uint() == r.Uint()
	case reflect.Float32, reflect.Float64:
		return l.Float() == r.Float()
	case reflect.Struct:
		return equalStructs(e, l, r)
	case reflect.Slice:
		if l.Type().Elem().Kind() == reflect.Uint8 {
			return bytes.Equal(l.Bytes(), r.Bytes())
		}
		return reflect.DeepEqual(l.Interface(), r.Interface()) // as the library: an empty list in it is not none
	case reflect.Map:
		return equalMaps(l, r)
	}
	return false
}

func equalStructs(e *value.TypeReflectCacheEntry, l, r reflect.Value) bool {
	for _, f := range e.OrderedFields() {
		lf, rf := f.GetFrom(l), f.GetFrom(r)
		if lo, ro := f.CanOmit(lf), f.CanOmit(rf); lo || ro {
			if lo != ro {
				return false
			}
			continue
		}
		if !equalSides(sideOf(lf), sideOf(rf)) {
			return false
		}
	}
	return true
}

func equalSides(l, r side) bool {
	if l.state != present || r.state != present {
		return l.state == r.state
	}
	return equal(value.TypeReflectEntryOf(l.v.Type()), l.v, r.v)
}

func equalMaps(l, r reflect.Value) bool {
	if l.Len() != r.Len() {
		return false
	}
	for it := l.MapRange(); it.Next(); {
		other := r.MapIndex(it.Key())
		if !other.IsValid() || !equalSides(sideOf(it.Value()), sideOf(other)) {
			return false
		}
	}
	return true
}
