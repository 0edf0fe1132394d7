// Package policystatus tells the authors of ValidatingAdmissionPolicies where their expressions don't fit the types of the objects that they
// match.
//
// In flow policies and the schemas of kinds; out flow the policies' statuses: the generation that was looked at, and warnings, each with the
// field of its expression.
package policystatus
