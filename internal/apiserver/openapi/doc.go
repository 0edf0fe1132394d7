// Package openapi serves the OpenAPI documents of the API, v2 and v3, with their descriptions.
//
// The definitions of all built-in kinds are made from their Go types when Clipper is built (go generate), and lie
// compressed in the binary. The paths are derived from what the server serves. A document is put together when it is
// first asked for and kept compressed; nothing is done, and no memory is taken, while nobody asks.
//
//	docs := openapi.New(openapi.Config{Served: srv.Served})
//	docs.Install(srv)
//
// In flow the served kinds; out flow /openapi/v2, /openapi/v3 and the documents below it.
package openapi
