package resource

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// unlimited is the limit of lists and maps whose length is bounded elsewhere.
const unlimited = -1

// validateList bounds a list and validates each item; the items of a list that is too long are not looked at.
func validateList[T any](list []T, max int, at *field.Path, item func(*T, *field.Path) check.Errors) (e check.Errors) {
	if max != unlimited && len(list) > max {
		e.TooMany(at, len(list), max)
		return e
	}
	for i := range list {
		e.Add(item(&list[i], at.Index(i))...)
	}
	return e
}

// validateSet is validateList for lists whose items differ by a key.
func validateSet[T any, K comparable](list []T, max int, at *field.Path, key func(*T) K, item func(*T, *field.Path) check.Errors) (e check.Errors) {
	e = validateList(list, max, at, item)
	if max != unlimited && len(list) > max {
		return e
	}
	seen := map[K]bool{}
	for i := range list {
		k := key(&list[i])
		if seen[k] {
			e.Duplicate(at.Index(i), k)
		}
		seen[k] = true
	}
	return e
}

// validateMap bounds a map and validates its keys, which complain about the map, and its values.
func validateMap[K ~string, V any](m map[K]V, max, maxKey int, at *field.Path, key func(string, *field.Path) check.Errors, value func(*V, *field.Path) check.Errors) (e check.Errors) {
	if max != unlimited && len(m) > max {
		e.TooMany(at, len(m), max)
		return e
	}
	for k, v := range m {
		e.Add(key(string(k), at)...)
		e.Add(value(&v, at.Key(shorten(string(k), maxKey)))...)
	}
	return e
}

// shorten takes the middle out of a text that is too long.
func shorten(s string, most int) string {
	limit := max(most, 16)
	if len(s) <= limit {
		return s
	}
	rest := limit - len("...")
	return s[:(rest+1)/2] + "..." + s[len(s)-rest/2:]
}

func itself(s *string) string { return *s }
