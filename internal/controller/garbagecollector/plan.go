package garbagecollector

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// ownerState is what became of an owner that an object names.
type ownerState int

const (
	solid   ownerState = iota // there
	waiting                   // there, but being deleted and waiting for its dependents
	absent                    // gone, or another of its name is there
	unknown                   // of a kind that isn't served
	invalid                   // in a place where an owner can't be
)

// action is what to do with an object that isn't being deleted.
type action int

const (
	leave     action = iota
	dropRefs         // take the references to the owners away that are gone or about to go
	remove           // delete the object
	unblock          // delete it in the foreground, but let its owner go first: they wait for each other
	removeFor        // delete it in the foreground, since its owner waits and it has dependents of its own
)

// decide tells what follows for an object from the states of its owners. dependents tells whether it has any, circle whether
// one of these waits for its own dependents already.
func decide(owners []ownerState, dependents, circle bool) action {
	has := func(s ownerState) bool { return slices.Contains(owners, s) }
	switch {
	case len(owners) == 0 || has(unknown) || has(invalid):
		return leave
	case has(solid) && (has(absent) || has(waiting)):
		return dropRefs
	case has(solid):
		return leave
	case has(waiting) && dependents && circle:
		return unblock
	case has(waiting) && dependents:
		return removeFor
	}
	return remove
}

// policyOf keeps what an object's deletion was asked to do with its dependents.
func policyOf(o client.Object) metav1.DeletionPropagation {
	switch {
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// awaits tells whether an object is being deleted and waits for its dependents.
func awaits(it client.Item) bool {
	return it.Deleting() && slices.Contains(it.Object().GetFinalizers(), metav1.FinalizerDeleteDependents)
}

// blocks tells whether a dependent holds up its owner's deletion.
func blocks(dependent client.Object, owner types.UID) bool {
	return slices.ContainsFunc(dependent.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.UID == owner && r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
	})
}

// sameOwners compares references by what matters here.
func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool {
		return x.UID == y.UID && (x.BlockOwnerDeletion != nil && *x.BlockOwnerDeletion) == (y.BlockOwnerDeletion != nil && *y.BlockOwnerDeletion)
	})
}
