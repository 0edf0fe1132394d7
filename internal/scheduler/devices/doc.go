// Package devices knows which devices there are and who has them, and finds devices for ResourceClaims: the structured parameters of dynamic
// resource allocation.
//
//	inv := devices.New()
//	inv.SetSlice(name, slice) // and SetClass, SetClaim: whenever one of them changes
//	q, err := inv.Ask(claims)
//	results, err := q.On(node) // nil if the node doesn't have them
//	revert := inv.Assume(claim)
//
// All of it is state in, decision out. What is expensive is done once: a slice's selectors and its devices' answers to CEL expressions are kept with the
// slice, so that a question about another node, or for the next pod, doesn't ask them again; what the allocated devices leave of a pool's counters is kept
// until an allocation changes. Not safe for concurrent use.
package devices
