// Package managed keeps metadata.managedFields: who owns which field of an object. Every write goes through it, so that
// a server-side apply can tell an owner's change from a conflict.
//
// In flow the objects before and after a write; out flow the same objects with their managed fields. The rules are those
// of k8s.io/apimachinery/pkg/util/managedfields, over types that the package schema holds in a compact form.
//
//	tracker, err := managed.New(api.Registered())
//	srv, err := apiserver.New(ctx, apiserver.Config{Tracker: tracker, …})
package managed
