// Package expression compiles and evaluates the CEL expressions of admission: match conditions, validations, messages, variables and mutations.
//
//	set := expression.NewSet(expression.Has{Params: true, Authorizer: true})
//	condition, err := set.Compile("object.spec.replicas < 5", cel.BoolType)
//	value, err := condition.Eval(ctx, &expression.Input{Object: o, …}, &budget)
//
// The variables are upstream's: object, oldObject, request, namespaceObject, params, authorizer, authorizer.requestResource and variables. Objects flow
// in as maps; out flow CEL values. Whatever an expression costs is taken from a budget.
package expression
