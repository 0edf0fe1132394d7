// Package apiserver is the API engine: it serves the table of kinds (package api) over the store.
//
// A request flows through ServeHTTP like this:
//
//	panic recovery → request info → authentication → impersonation → limits → authorization → dispatch
//
// and a write from there like this, whether it came over HTTP or from a Client inside the process:
//
//	decode, convert, default → namespace and name → managed fields → mutating admission → the row's Prepare →
//	metadata → validation → validating admission → storage, guarded by the revision that was read
//
// Reads decode nothing where the client speaks protobuf: what the cache holds is what the client gets, in an
// envelope that the package wire puts around it.
//
// In flow requests and the rows; out flow responses, and the Clients that everything else in the process uses.
//
//	srv, err := apiserver.New(ctx, apiserver.Config{Store: st, Rows: api.Registered(), Logger: log})
//	srv.Install(apiserver.Security{Authenticator: …, Authorizer: …, Admission: …}) // may use srv.Client
//	go srv.Run(ctx)
//	http.Serve(listener, srv.Handler())
package apiserver
