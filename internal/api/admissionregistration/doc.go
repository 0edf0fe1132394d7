// Package admissionregistration holds the rows of the group admissionregistration.k8s.io: configurations of webhooks, and policies with
// their bindings. What they say is done by the packages below internal/admission.
package admissionregistration
