// Package crd serves what CustomResourceDefinitions define.
//
//	manager, err := crd.New(ctx, crd.Config{Server: engine, Client: engine.Client(user), Logger: log}) // those that exist are served now
//	err = manager.Run(ctx)
//
// Definitions flow in from the engine's own table. Out flow rows for the engine (AddRows and ReplaceRow do the rest: routing, discovery, storage),
// the definitions' conditions, and, when one is deleted, the end of all its objects.
//
// A definition becomes one row. Its versions differ in schema, columns and subresources, so each has a row of its own within (api.Version.Own).
// Objects are unstructured and have no hub: see api.Resource.Stored.
package crd
