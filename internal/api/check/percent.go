package check

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// IntOrPercent requires a number of at least 0, or a percentage.
func (e *Errors) IntOrPercent(path *field.Path, n intstr.IntOrString) {
	switch n.Type {
	case intstr.String:
		e.Messages(path, n, validation.IsValidPercent(n.StrVal))
	case intstr.Int:
		e.NonNegative(path, int64(n.IntValue()))
	default:
		e.Invalid(path, n, "must be an integer or percentage (e.g '5%%')") // sic
	}
}

// AtMost100Percent refuses a percentage above 100.
func (e *Errors) AtMost100Percent(path *field.Path, n intstr.IntOrString) {
	if percent, ok := percentOf(n); ok && percent > 100 {
		e.Invalid(path, n, "must not be greater than 100%")
	}
}

// AmountOf returns the number, or the percentage, that n stands for.
func AmountOf(n intstr.IntOrString) int {
	if percent, ok := percentOf(n); ok {
		return percent
	}
	return n.IntValue()
}

func percentOf(n intstr.IntOrString) (int, bool) {
	if n.Type != intstr.String || len(validation.IsValidPercent(n.StrVal)) > 0 {
		return 0, false
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(n.StrVal, "%"))
	return percent, err == nil
}
