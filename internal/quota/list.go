package quota

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Names returns a list's names, sorted.
func Names(l corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(l))
	for n := range l {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Mask returns the part of a list with these names.
func Mask(l corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, n := range names {
		if q, ok := l[n]; ok {
			out[n] = q
		}
	}
	return out
}

// Add returns the sum of two lists.
func Add(a, b corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range a {
		out[n] = q.DeepCopy()
	}
	for n, q := range b {
		sum, ok := out[n]
		if !ok {
			out[n] = q.DeepCopy()
			continue
		}
		sum.Add(q)
		out[n] = sum
	}
	return out
}

// Subtract returns a without b; nothing is less than zero.
func Subtract(a, b corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range a {
		rest := q.DeepCopy()
		rest.Sub(b[n])
		if rest.Sign() < 0 {
			rest = resource.Quantity{Format: q.Format}
		}
		out[n] = rest
	}
	return out
}

// Equal compares two lists by value.
func Equal(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for n, q := range a {
		other, ok := b[n]
		if !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}

// nonZero returns a list without its zeros.
func nonZero(l corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range l {
		if !q.IsZero() {
			out[n] = q
		}
	}
	return out
}

// exceeded returns the names by which a list is more than the limits, sorted.
func exceeded(l, limits corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range Names(limits) {
		if q, ok := l[n]; ok && q.Cmp(limits[n]) > 0 {
			out = append(out, n)
		}
	}
	return out
}

func show(l corev1.ResourceList) string {
	var parts []string
	for _, n := range Names(l) {
		q := l[n]
		parts = append(parts, string(n)+"="+q.String())
	}
	return strings.Join(parts, ",")
}

func showNames(names []corev1.ResourceName) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = string(n)
	}
	return strings.Join(parts, ",")
}

func intersection(names, with []corev1.ResourceName) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range names {
		if slices.Contains(with, n) {
			out = append(out, n)
		}
	}
	return out
}

func count(n int) resource.Quantity { return *resource.NewQuantity(int64(n), resource.DecimalSI) }
