// Package rbac is the authorizer of roles and bindings.
//
//	az, err := rbac.New(ctx, client)
//
// What flows in are the live sets of the four kinds of rbac.authorization.k8s.io. They are compiled once per change into an index by
// subject, so that a request costs a look-up for its user and each of its groups and decodes nothing. What flows out are
// decisions, the list of a user's rules, and, as the admission plugin Escalation, the check that nobody
// grants what they don't have.
package rbac
