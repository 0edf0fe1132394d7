// Package devicetainteviction deletes pods that use a device with a NoExecute taint that their claim doesn't tolerate, at once or after the time
// that it tolerates it.
//
// In flow pods, claims and slices of devices; out flow the condition DisruptionTarget on the pods that must go, and their deletion. When a pod must
// go follows from these objects alone: from the time that the taint was added.
package devicetainteviction
