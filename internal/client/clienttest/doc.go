// Package clienttest is an in-memory client.Client for tests: a map of objects with revisions, live Views and the
// bookkeeping that an API server does to metadata (names, UIDs, revisions, finalizers, status apart from the rest).
// It does not default, validate, authorize or admit.
//
//	c := clienttest.New(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
//	pods, err := client.Pods.View(ctx, c, client.Selection{})
//
// What a component wrote is in Writes; a write or read can be made to fail with Intercept, and subresources that
// compute something (serviceaccounts/token) are served by HandleSub.
package clienttest
