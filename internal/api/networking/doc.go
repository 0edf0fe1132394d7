// Package networking holds the rows of the API group networking.k8s.io.
package networking
