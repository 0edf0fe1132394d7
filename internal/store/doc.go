// Package store is the cluster's database, etcd, and the cache in front of it.
package store
