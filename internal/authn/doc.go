// Package authn finds out who makes a request.
//
//	a, err := authn.New(ctx, cl, authn.Config{ClientCA: pool, TokenKey: key, …})
//	resp, ok, err := a.AuthenticateRequest(req)
//
// What flows in is a request with its TLS state, and the live objects on which tokens depend: service accounts, pods,
// nodes and secrets. What flows out is a user, or none, or an error: then the request ends with 401.
//
// One file holds one method: the authenticating proxy (proxy.go), client certificates (x509.go), bearer tokens (bearer.go)
// of service accounts (serviceaccount.go, legacy.go), of bootstrap (bootstrap.go), of OIDC issuers (configuration.go, oidc/) and such as another server
// knows (webhook/), and nobody (anonymous.go). They are tried in
// upstream's order. Besides, the package signs service account tokens (issue.go), publishes the keys that verify them
// (discovery.go), reviews tokens for others (review.go), and checks who may act as whom (impersonate.go).
//
// A token's signature is verified once and remembered; what it is bound to is looked up for every request, so that it ends
// with what it is bound to.
package authn
