// Package discovery holds the rows of the API group discovery.k8s.io.
package discovery
