// Package bootstrap holds what every cluster has from its first start: the system namespaces, roles and bindings, priority classes,
// and flow schemas with their priority levels.
//
//	err := bootstrap.Apply(ctx, client, rbacAuthorizer)
//
// What flows in is objects.json: the objects as upstream v1.36 makes them. Apply compares them with what is stored, writes what is missing, and
// returns when the authorizer knows the roles. A role or binding keeps what was added to it; one annotated with
// rbac.authorization.kubernetes.io/autoupdate=false is left alone. The flow schemas and priority levels are for package fairness to apply.
package bootstrap
