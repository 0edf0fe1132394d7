// Package server is the keeper: the one process on a node that parents containers.
//
// The daemon may die at any time; the keeper stays. It makes and holds the namespaces of pods by
// descriptor, starts containers through libcontainer, holds their standard streams and terminals,
// writes their logs in the format of the Container Runtime Interface, and records how each one ended,
// durably, before it tells anyone.
//
// What flows in: calls of package wire on a unix socket. What flows out: running containers, log
// files, records below the state directory, and exit events to whoever subscribed.
//
// Life of a container: Start makes its process, which waits at libcontainer's gate; its seccomp filter
// is installed; the gate opens. A watcher waits for the exit, ends what the container left running,
// drains the streams, writes the record and announces the exit. Remove takes everything away.
//
// A keeper that is itself restarted adopts the containers that still run: it finds their process by
// the identity in their record, their streams in named pipes, and their exit status through a
// descriptor of the process.
package server
