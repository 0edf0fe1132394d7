// Package scheduling holds the rows of the API group scheduling.k8s.io.
package scheduling
