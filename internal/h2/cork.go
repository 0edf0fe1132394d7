package h2

import (
	"net"
	"sync"
)

// Listen returns a listener whose connections can hold back the records of one large write, so that they leave together. The
// server works without it, at one system call for each record.
func Listen(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &corkable{Conn: c}, nil
}

// corkable is the network's side of a TLS connection.
type corkable struct {
	net.Conn

	mu     sync.Mutex
	corked bool
	held   []byte
}

// Write implements net.Conn.
func (c *corkable) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// cork holds back what is written from now on, in a buffer to begin with.
func (c *corkable) cork(buffer []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked, c.held = true, buffer[:0]
}

// uncork sends what was held back, and returns the buffer.
func (c *corkable) uncork() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(c.held)
	held := c.held
	c.corked, c.held = false, nil
	return held, err
}
