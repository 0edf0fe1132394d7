// Package audit records who asked what of the API, as far as a policy (audit.k8s.io/v1) wants it.
//
//	a, err := audit.Open(options, metrics, logger)
//	defer a.Close()
//	record, err := a.Begin(r, attributes, id, received)
//	…
//	record.Complete(answer)
//
// A request makes an event at each of its stages: RequestReceived, ResponseStarted if it lasts long, ResponseComplete or Panic. A nil
// Auditor and a nil Record do nothing: a server without a policy pays for a comparison.
//
// Events flow out to sinks, a log file and a webhook, each behind a buffer (batch mode) or in the request's own time (blocking), and each
// with large events cut to size if that is wanted.
package audit
