// Package authorization holds the rows of authorization.k8s.io: reviews of who may do what. Nothing of them is stored.
package authorization
