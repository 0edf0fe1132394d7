package managed

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Merge returns an object with the fields of a patch of the same kind put over its own, as the kind's schema says that they are
// merged. Owners are not looked at. Fields that can only be replaced as a whole are refused.
func (t *Tracker) Merge(original, patch *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	p, err := t.types.ObjectToTyped(patch)
	if err != nil {
		return nil, fmt.Errorf("failed to convert patch object to typed object: %w", err)
	}
	if whole := atomics("", p.Schema(), p.TypeRef(), p.AsValue()); len(whole) > 0 {
		return nil, fmt.Errorf("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: %v", strings.Join(whole, ", "))
	}
	o, err := t.types.ObjectToTyped(original, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("failed to convert original object to typed object: %w", err)
	}
	merged, err := o.Merge(p)
	if err != nil {
		return nil, fmt.Errorf("failed to merge patch: %w", err)
	}
	out, err := t.types.TypedToObject(merged)
	if err != nil {
		return nil, fmt.Errorf("failed to convert typed object to object: %w", err)
	}
	u, ok := out.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("failed to convert typed object to object: it is a %T", out)
	}
	return u, nil
}

// atomics lists the places in a value that are maps or lists without parts of their own.
func atomics(path string, s *smd.Schema, ref smd.TypeRef, v value.Value) (out []string) {
	atom, ok := s.Resolve(ref)
	if !ok || v == nil || v.IsNull() {
		return nil
	}
	switch {
	case atom.Map != nil && v.IsMap():
		if atom.Map.ElementRelationship == smd.Atomic {
			return []string{path}
		}
		v.AsMap().Iterate(func(key string, field value.Value) bool {
			below := atom.Map.ElementType
			if f, known := atom.Map.FindField(key); known {
				below = f.Type
			}
			out = append(out, atomics(path+"."+key, s, below, field)...)
			return true
		})
	case atom.List != nil && v.IsList():
		if atom.List.ElementRelationship == smd.Atomic {
			return []string{path}
		}
		list := v.AsList()
		for i := range list.Length() {
			out = append(out, atomics(fmt.Sprintf("%s[%d]", path, i), s, atom.List.ElementType, list.At(i))...)
		}
	}
	return out
}
