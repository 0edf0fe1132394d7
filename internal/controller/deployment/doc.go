// Package deployment rolls Deployments out: each version of a pod template gets a ReplicaSet of its own, and the sizes of these sets
// move from the old to the new as the strategy allows.
//
// In flow Deployments, their ReplicaSets and, for the Recreate strategy, pods. Out flow ReplicaSets (created, scaled, annotated with their
// revision, deleted beyond the history limit) and the Deployments' status. The decision is pure: makePlan works on copies of
// what is there and leaves behind what it wants to be there; the controller writes the differences.
package deployment
