// Package clusterroleaggregation gives a ClusterRole with an aggregation rule the rules of all the ClusterRoles that it selects.
package clusterroleaggregation
