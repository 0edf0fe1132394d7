// Package quota computes what objects use of a namespace's ResourceQuotas, and whether a request fits.
//
//	e := quota.For(gr, devices)
//	changed, err := quota.Check(quotas, e, quota.Request{Create: true, Object: pod})
//
// What flows in are quotas and objects; what flows out are the quotas with their new usage, or the refusal in upstream's words. Nothing
// here reads or writes: admission does that for requests, and the controller for what happens besides.
//
// An evaluator knows one resource: which names of a quota concern it ("requests.cpu", "count/pods"), which scopes an object is in,
// and what it uses. Names may belong to several: devices that stand for an extended resource count with the pods that ask for it, and
// with claims. A Ledger remembers what was reserved for requests that are still under way, so that the controller, which counts
// objects, doesn't give it to others.
package quota
