// Package persistentvolume binds PersistentVolumeClaims and PersistentVolumes to each other, both ways, and reclaims volumes whose claim is gone.
//
// A binding is four writes, each of which can be the last before a crash: the volume names the claim (spec.claimRef) and becomes Bound, then
// the claim names the volume (spec.volumeName, with the annotation pv.kubernetes.io/bind-completed) and becomes Bound. Whatever of it is missing is done at the next
// look at the claim. What a person has set stays when a binding is undone; the annotation pv.kubernetes.io/bound-by-controller tells the two apart.
// A claim that waits for its first consumer is left to the scheduler, and one for which no volume fits to its class's provisioner.
//
// It reads volumes, claims, storage classes and pods, and writes volumes and claims. Keys without a namespace are volumes.
package persistentvolume
