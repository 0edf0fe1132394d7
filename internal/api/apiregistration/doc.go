// Package apiregistration holds the row of the group apiregistration.k8s.io: APIService, which says who serves a group and version. Whom it
// names is reached by the engine's package aggregator.
package apiregistration
