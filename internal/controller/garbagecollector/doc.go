// Package garbagecollector deletes objects whose owners have gone, and sees deletions through that wait for dependents (foreground)
// or set them free (orphan).
//
// In flow all kinds that the API serves, custom ones as they appear; out flow deletions, and owner references and finalizers that are
// taken away. There is no graph to keep: the cache's index by owner UID leads from an object to its dependents, and an owner reference leads back.
// Only objects that are being deleted are decoded.
//
// A key names an object of any kind: its Name is "resource.group/name".
package garbagecollector
