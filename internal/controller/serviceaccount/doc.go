// Package serviceaccount makes the service account "default" in every namespace, anew whenever it is deleted.
package serviceaccount
