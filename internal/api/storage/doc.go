// Package storage has the rows of storage.k8s.io.
package storage
