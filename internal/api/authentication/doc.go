// Package authentication holds the rows of authentication.k8s.io: reviews of tokens and of oneself. Nothing of them is stored.
package authentication
