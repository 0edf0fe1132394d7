// Package guard is the keeper's C: what must happen in a container's process outside Go's reach.
//
// A container's init starts Guard before it gives up its privileges. The guard is a thread of its own
// that keeps them and waits; when the keeper says go, at the last moment before the container's program
// is executed, it installs the seccomp filter on all threads of the process. So a filter needs to allow
// none of the calls that set a container up, and no C library for filters is linked.
//
// The package also holds the reaper, the first process of a process namespace that a pod's containers
// share, and the entry, which sets up an ordinary container by a script and becomes its program. Both run before
// Go's runtime would start, and so cost a few hundred kilobytes and little time.
package guard
