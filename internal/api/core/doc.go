// Package core has the rows of the core group's kinds: Pod, Node, Service and the others of v1.
//
// A kind has its file (pod.go, service.go …): the row first, then defaults, validation, update rules and columns.
// What pods share with the templates of other kinds is split by theme and exported where another group needs it:
// DefaultPodTemplate and DefaultPodSpec fill in, DropDisabledTemplateFields removes what feature gates leave out, and
// ValidatePodTemplate and ValidateReplicatedTemplate check (containers.go, volumes.go, probes.go, affinity.go, security.go, resources.go …).
//
// What flows in is an object as a client sent it or as it was stored; what flows out is the same object completed, or a list of field errors in upstream's words.
package core
