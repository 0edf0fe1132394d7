// Package tainteviction deletes pods that don't tolerate a NoExecute taint of their node, at once or after the time that they tolerate it.
//
// In flow pods and nodes; out flow the condition DisruptionTarget on the pods that must go, and their deletion. When a pod must go follows
// from the pod and the node alone: from the time that the taint was added, or that the pod came, whichever is later.
package tainteviction
