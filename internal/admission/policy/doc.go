// Package policy holds the admission plugins ValidatingAdmissionPolicy and MutatingAdmissionPolicy: what policies say in CEL about the
// requests that their bindings choose, with parameters from other objects.
//
// In flow requests, policies, bindings and parameters; out flow refusals, warnings, audit annotations and changed objects.
package policy
