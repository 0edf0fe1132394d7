// Package namespace empties namespaces that are being deleted, and lets them go when nothing is left in them.
//
// In flow Namespaces and, for those that are on their way out, every namespaced kind that the API serves at that moment. Out flow the
// deletion of all content (pods first, since the others may be what a pod needs to end well), the conditions that tell what
// holds the deletion up, and at last the removal of the finalizer "kubernetes".
package namespace
