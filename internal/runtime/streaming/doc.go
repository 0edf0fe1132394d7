// Package streaming serves the connections of exec, attach and port-forward.
//
// A request of the Container Runtime Interface is answered with an address on loopback that holds a
// token, good for one use and a minute; the client then connects there, by SPDY or WebSocket. What flows in: such
// connections. What flows out: bytes to and from processes that the keeper runs, and to and from
// ports inside a pod's network namespace.
package streaming
