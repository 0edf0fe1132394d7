// Package serviceaccounttoken fills Secrets of type kubernetes.io/service-account-token with the token of the account that they name, and
// deletes them when that account goes away.
package serviceaccounttoken
