// Package resourcequota keeps the status of ResourceQuotas: the limits that hold, and what the namespace's objects use of them.
//
// Admission adds to a quota's usage what a request is about to make; this controller counts what there really is, when a quota is new or
// changed, when objects go away or stop counting, and every five minutes. What admission has reserved for requests that are still under
// way is in the ledger that both share, and counted too.
package resourcequota
