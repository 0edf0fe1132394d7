// Package resourceclaim makes the ResourceClaims that pods name templates for, and keeps the status of all claims true.
//
// In flow pods, claims and templates. Out flow generated claims, whose names are written into their pods' statuses; reservations for pods that were
// given a node by hand; and, when a pod that had reserved a claim is done, the claim without that reservation, without its allocation if nobody
// uses it any more, and not at all if it was generated for that pod.
package resourceclaim
