// Package fairness decides which requests the API server serves at once and which wait for whom: API priority and fairness, after
// KEP-1040. Configuration flows in as FlowSchemas and PriorityLevelConfigurations; Tickets flow out.
//
//	var t fairness.Ticket
//	switch c.Admit(&t, fairness.Request{User: u, Info: info}) {
//	case fairness.Rejected:
//		…429…
//	case fairness.Queued:
//		if !t.Wait(ctx) {
//			…429…
//		}
//	}
//	defer t.Leave()
//
// # Levels and seats
//
// The server has a number of seats. A request takes one for as long as it executes; a list takes as many as what it loads is worth,
// and a write keeps some for a moment after its end while its watchers are served. Each priority level owns a share of the seats,
// lends what it doesn't use and may borrow: every ten seconds the current limits are set so that all levels get the same fraction of
// what they demand, within their bounds (allocate).
//
// # Shuffle sharding
//
// Within a level that queues, the requests of one schema that have the same distinguisher (a user or a namespace) are a flow. A hash
// of the flow deals it a hand of queues out of the deck, and each of its requests joins the hand's shortest. A flow that floods its
// own hand leaves other flows at least one queue of theirs, with high probability, although there are fewer queues than flows.
//
// # Fair queuing
//
// Queues are served by fair queuing (Nagle, RFC 970; Demers, Keshav and Shenker, 1989) with servers for links and requests for
// packets. Imagine that all queues that have work were served at once, seat by seat, in turns. R, the virtual time, is the amount of
// service that each of them has had: it grows at the rate of seats in use divided by active queues. The request is dispatched
// that would finish first in that imagined world. Three things differ from the original. A request occupies several seats at once
// and for a time of which only an estimate is known; when it ends, its queue is charged or given back the difference. A queue
// doesn't save up what it couldn't use: its next start is never before its next request's arrival. And a dispatch can be impossible
// for lack of seats: then nothing overtakes the request that is due, so that wide requests don't starve.
//
// An idle queue has no state, so only queues with requests exist, whatever the size of the deck. A request that finds room costs one
// lock and no allocation; metrics are counted under the same lock and made into series when somebody reads them.
package fairness
