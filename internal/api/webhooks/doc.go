// Package webhooks checks what the kinds that name webhooks have in common: how such a server is reached.
//
// In flow URLs, references to Services and bundles of authorities; out flow field errors in upstream's words.
package webhooks
