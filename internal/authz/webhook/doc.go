// Package webhook lets another server decide who may do what.
//
//	w := webhook.New(reviewer, webhook.Config{Name: "policy", …})
//	decision, reason, err := w.Authorize(ctx, attributes)
//
// What flows in are the attributes of requests. Those that the match conditions select flow out as SubjectAccessReviews; the answers come back
// and are remembered for a while. Where no answer comes, the failure policy decides.
package webhook
