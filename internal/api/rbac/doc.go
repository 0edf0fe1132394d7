// Package rbac holds the rows of rbac.authorization.k8s.io: roles and their bindings. Who may write what into them is checked by
// the admission plugin of internal/authz/rbac.
package rbac
