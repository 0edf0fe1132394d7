// Package statefulset keeps the pods of a StatefulSet: each with a number, a name and volumes of its own that outlive it.
//
// In flow StatefulSets, pods, volume claims and revisions; out flow pods and claims (created, deleted, put right), revisions and status. With the
// policy OrderedReady nothing is done to a pod before all of lower number are ready, nor taken away before all are; updates go from the highest number down.
// The decision is pure: makePlan returns what to create and delete next.
package statefulset
