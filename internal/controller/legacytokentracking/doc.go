// Package legacytokentracking keeps the ConfigMap kube-system/kube-apiserver-legacy-service-account-token-tracking, which says since when the
// use of tokens that live in Secrets is noted on these. Package legacytokencleaner removes none that may have been used before that day.
package legacytokentracking
