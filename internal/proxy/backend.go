package proxy

import "context"

// Backend puts service ports into effect on the node it runs on.
//
// Its life: the backend is made when the process starts; what an earlier process left in the kernel keeps
// working until then and may stay until the first Sync. The first Sync brings every service port that
// there is, and when it returns, nothing else remains of the earlier process. Each later Sync brings differences.
// Sync is called by one goroutine, one call at a time. Close ends the backend's connections to the kernel
// and leaves all in effect, so that Services work while the process restarts; Purge takes all of it out.
//
// A Sync has these promises, which the shared tests in proxytest hold every backend to:
//
//   - When it returns nil, a new connection to any address of a changed port meets the endpoints in
//     Change.New and no others. Ports that were not in the changes are undisturbed.
//   - At no time in between does a connection to a port that has endpoints before and after fail.
//   - Connections that exist stay with their endpoint, even when it's no longer among the port's endpoints.
//   - Without changes, it makes sure that what is in effect is still there.
//   - When it returns an error, what is in effect may be the former or the new state of any port, and the next
//     Sync, even one without changes, makes all of it right again.
type Backend interface {
	// Sync puts changes into effect.
	Sync(ctx context.Context, changes []Change) error
	// Close gives up resources of this process.
	Close() error
}

// Change is a difference in one service port.
type Change struct {
	// Old is nil for a port that appeared.
	Old *ServicePort
	// New is nil for a port that went away.
	New *ServicePort
}

// Key returns which port changed.
func (c Change) Key() Key {
	if c.New != nil {
		return c.New.Key
	}
	return c.Old.Key
}
