package server

import (
	"sync"

	"clipper.dev/clipper/internal/keeper/wire"
)

// callers are the connections on which calls may come, each with a channel that is closed when it carries none any more.
type callers struct {
	mu    sync.Mutex
	conns map[*wire.Conn]chan struct{}
}

func (c *callers) add(conn *wire.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns == nil {
		c.conns = map[*wire.Conn]chan struct{}{}
	}
	c.conns[conn] = make(chan struct{})
}

// remove takes away a connection that has ended, or that carries a stream from now on.
func (c *callers) remove(conn *wire.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done, ok := c.conns[conn]; ok {
		close(done)
		delete(c.conns, conn)
	}
}

// settle returns when every call of a caller that is gone has been performed. Who asks what there is after the
// daemon's death would otherwise miss what its last calls are still making.
func (c *callers) settle() {
	c.mu.Lock()
	var left []chan struct{}
	for conn, done := range c.conns {
		if conn.PeerGone() {
			left = append(left, done)
		}
	}
	c.mu.Unlock()
	for _, done := range left {
		<-done
	}
}
