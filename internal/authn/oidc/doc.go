// Package oidc believes the tokens of OpenID Connect issuers, as a structured AuthenticationConfiguration or the --oidc flags describe them.
//
//	issuer, err := oidc.New(ctx, jwtAuthenticator, oidc.Options{})
//	resp, ok, err := issuer.AuthenticateToken(ctx, token)
//
// What flows in is one JWT authenticator of the configuration, and tokens. What flows out are users: their name, groups, UID and extra as the
// claims, or CEL expressions over them, say. The issuer's keys are fetched when it is first reached, which is tried until it succeeds, and again when a
// token names a key that is not among them.
package oidc
