// Package replicaset keeps as many pods as a ReplicaSet, or a ReplicationController, asks for.
//
// In flow the sets and the pods; out flow pods (created from the template, deleted by what costs least), owner references of pods
// that are adopted or released, and the sets' status. The runner never hands a set out before the views show the pods that
// its last reconciliation created or deleted, so counting the pods that are there is enough.
//
// ReplicationControllers are the same thing with another kind: each is read as a ReplicaSet and its status is written back.
package replicaset
