package match

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"clipper.dev/clipper/internal/expression"
)

func TestAConditionThatFailsIsNamed(t *testing.T) {
	c := Compile([]admissionv1.MatchCondition{{Name: "c", Expression: "object.nope == 1"}}, false)
	_, err := c.met(t.Context(), &expression.Input{Object: map[string]any{}})
	if want := "expression 'object.nope == 1' resulted in error: no such key: nope"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
