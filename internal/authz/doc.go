// Package authz decides who may do what.
//
//	az := authz.Union{authz.Masters{}, nodeAuthorizer, rbacAuthorizer}
//	decision, reason, err := az.Authorize(ctx, attributes)
//
// What flows in are a request's attributes: its user, verb and object. What flows out is allow, deny, or no opinion, which at the
// end of the union means no. A subpackage holds each authorizer: rbac the roles and bindings, node what a kubelet may
// see of the pods that it runs, bootstrap the roles and bindings that every cluster has.
//
// An authorizer's words: it allows, and nobody is asked further; it denies, likewise (none of the built-in ones does); or it has no
// opinion, and the next one is asked. Its reason is shown to the user who is refused. Authorizers that can enumerate what a user may do
// implement authorizer.RuleResolver too.
package authz
