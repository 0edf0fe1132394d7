// Package coordination holds the rows of the API group coordination.k8s.io.
package coordination
