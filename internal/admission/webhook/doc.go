// Package webhook holds the admission plugins that ask webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.
//
// In flow requests and the configurations of webhooks, which are read anew for each request; out flow changed objects, warnings, audit
// annotations and refusals, in upstream's words.
package webhook
