// Package wire is the private protocol between the daemon and the keeper.
//
// Both ends run on one machine and speak over a unix socket. A connection begins with a Hello from
// each side and then carries one call at a time: a Request, answered by a Response. Messages are JSON
// with a four-byte length in front; open files travel beside them, attached to the length. Exec,
// Attach and Events take their connection over: further responses follow until one side closes it.
//
// What flows in: the daemon's requests. What flows out: the keeper's answers and exit events. The
// package knows no other package of Clipper, so that both binaries can link it.
package wire
