package expression_test

import (
	"context"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/expression"
)

func TestExpressionsSeeWhatTheirSetHas(t *testing.T) {
	object := map[string]any{"spec": map[string]any{"replicas": int64(3)}}
	for _, c := range []struct {
		name, text string
		variables  [][2]string
		want       bool
	}{
		{"an object's field", "object.spec.replicas == 3", nil, true},
		{"an absent old object", "oldObject == null", nil, true},
		{"parameters", "params.max < object.spec.replicas", nil, true},
		{"a variable", "variables.n > 2", [][2]string{{"n", "object.spec.replicas"}}, true},
		{"a variable of another variable", "variables.twice == 6", [][2]string{{"n", "object.spec.replicas"}, {"twice", "variables.n * 2"}}, true},
		{"the request", "request.operation == 'CREATE'", nil, true},
		{"a false condition", "object.spec.replicas > 5", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := expression.NewSet(expression.Has{Params: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range c.variables {
				if err := set.Declare(v[0], v[1]); err != nil {
					t.Fatal(err)
				}
			}
			e, err := set.Compile(c.text, expression.Bool)
			if err != nil {
				t.Fatal(err)
			}
			budget := expression.Budget(1000000)
			in := &expression.Input{Object: object, Params: map[string]any{"max": int64(2)}, Request: map[string]any{"operation": "CREATE"}}
			got, err := e.Eval(context.Background(), in, &budget)
			if err != nil {
				t.Fatal(err)
			}
			if got.Value() != c.want {
				t.Errorf("%s is %v", c.text, got.Value())
			}
		})
	}
}

func TestPatchTypesAreKnownBesideVariables(t *testing.T) {
	set, err := expression.NewSet(expression.Has{Patches: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Declare("n", "1337"); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Compile("Object{spec: Object.spec{replicas: variables.n}}", expression.ObjectPatch); err != nil {
		t.Error(err)
	}
	if _, err := set.Compile(`[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "x"}]`, expression.JSONPatchList); err != nil {
		t.Error(err)
	}
}

func TestWrongTypesAndUnknownNamesAreRefused(t *testing.T) {
	set, err := expression.NewSet(expression.Has{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"1": "must evaluate to bool but got int", "params.x": "undeclared reference to 'params'", "object.": "compilation failed: ERROR"} {
		if _, err := set.Compile(text, expression.Bool); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestABudgetEnds(t *testing.T) {
	set, err := expression.NewSet(expression.Has{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := set.Compile("[1,2,3,4,5,6,7,8].all(x, x > 0)", expression.Bool)
	if err != nil {
		t.Fatal(err)
	}
	budget := expression.Budget(3)
	if _, err := e.Eval(context.Background(), &expression.Input{}, &budget); err != expression.ErrBudget { //nolint:errorlint // it is this very error
		t.Errorf("an expression beyond its budget: %v", err)
	}
}

func TestMessagesMayNotAskForPermissions(t *testing.T) {
	set, err := expression.NewSet(expression.Has{Authorizer: true})
	if err != nil {
		t.Fatal(err)
	}
	const asks = "authorizer.group('').resource('pods').check('get').allowed()"
	if err := set.Declare("may", asks); err != nil {
		t.Fatal(err)
	}
	messages, err := set.WithoutAuthorizer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := messages.Compile(asks, expression.Bool); err == nil || !strings.Contains(err.Error(), "undeclared reference to 'authorizer'") {
		t.Errorf("got %v", err)
	}
	if _, err := messages.Compile("variables.may ? 'yes' : 'no'", expression.String); err != nil {
		t.Error(err)
	}
}
