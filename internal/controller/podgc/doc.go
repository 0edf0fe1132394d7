// Package podgc removes pods that nobody else will: those bound to a node that no longer exists, those that are being deleted without ever
// having had a node or on a node declared out of service, and the oldest of those that have ended, beyond a number that is kept.
//
// In flow pods and nodes; out flow the phase Failed on pods that were lost, and forced deletions.
package podgc
