// Package clusterauthentication publishes in the ConfigMap kube-system/extension-apiserver-authentication whom the API server believes, so that
// aggregated servers believe the same: the authority of client certificates, and the front proxy with its headers.
package clusterauthentication
