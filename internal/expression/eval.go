package expression

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// ErrBudget is the error of an evaluation that costs more than is left.
var ErrBudget = errors.New("validation failed due to running out of cost budget, no further validation rules will be run")

// A Budget is what evaluations may still cost.
type Budget int64

// Input is what an expression sees. Maps are read-only; nil is null.
type Input struct {
	Object, OldObject, Params  map[string]any
	Request, Namespace         map[string]any
	Authorizer, RequestChecker ref.Val
	// Variables holds what was computed of them for this input; Eval fills it.
	Variables *lazy.MapValue
}

// Eval evaluates the expression.
func (e *Expression) Eval(ctx context.Context, in *Input, budget *Budget) (ref.Val, error) {
	a := &activation{in: in}
	if len(e.variables) > 0 {
		if in.Variables == nil {
			in.Variables = lazy.NewMapValue(types.NewObjectTypeValue(variablesType))
		}
		for _, v := range e.variables {
			in.Variables.Append(v.name, func(*lazy.MapValue) ref.Val {
				value, err := v.e.Eval(ctx, in, budget)
				if err != nil {
					return types.WrapErr(fmt.Errorf("composited variable %q fails to evaluate: %w", v.name, err))
				}
				return value
			})
		}
	}
	began := time.Now()
	value, details, err := e.program.ContextEval(ctx, a)
	observe(evaluations, began)
	if details != nil && details.ActualCost() != nil {
		cost := *details.ActualCost()
		if cost > math.MaxInt64 || Budget(cost) > *budget {
			*budget = -1
			return nil, ErrBudget
		}
		*budget -= Budget(cost)
	}
	if err != nil {
		return nil, err
	}
	return value, nil
}

// activation finds an input's values by name.
type activation struct{ in *Input }

var _ interpreter.Activation = (*activation)(nil)

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "object":
		return orNull(a.in.Object), true
	case "oldObject":
		return orNull(a.in.OldObject), true
	case "params":
		return orNull(a.in.Params), true
	case "request":
		return orNull(a.in.Request), true
	case "namespaceObject":
		return orNull(a.in.Namespace), true
	case "authorizer":
		return a.in.Authorizer, a.in.Authorizer != nil
	case "authorizer.requestResource":
		return a.in.RequestChecker, a.in.RequestChecker != nil
	case "variables":
		return a.in.Variables, a.in.Variables != nil
	}
	return nil, false
}

func orNull(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}
