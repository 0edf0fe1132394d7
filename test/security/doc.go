// Package security tests who may do what on the real engine: certificates, tokens, roles, admission and quota, as clients meet them over
// TLS, with the controllers that security needs at work.
package security
