// Package hook calls webhooks: servers, named by a URL or a Service, that are sent a document in JSON and answer with one.
//
//	caller := hook.New(resolver)
//	err := caller.Call(ctx, hook.Target{Service: &hook.Service{Namespace: "ns", Name: "checker", Port: 443}, CABundle: pem}, 10*time.Second, review, &answer)
//
// What flows in are targets and requests; what flows out are answers, or errors in the words of upstream's client. Services are reached by
// one of their ready endpoints, so a server that runs no proxy for Services can call them, too.
package hook
