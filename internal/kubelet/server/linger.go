package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// lingering hands a connection over as one whose Close loses nothing.
func lingering(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { next(hijacker{w}, r) }
}

type hijacker struct {
	http.ResponseWriter
}

// Unwrap lets the other powers of the writer be found.
func (h hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Hijack implements http.Hijacker.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &lingeringConn{Conn: conn}, buffered, nil
}

// lingerPatience is how long a peer may take to read what is left for it.
const lingerPatience = time.Minute

// lingeringConn is closed only when the peer has closed, or has had its time. What a peer sends to a closed connection, a ping for example, is
// answered by the kernel with a reset, and what the peer has not been sent yet is lost: the end of a command's output, and its exit code.
type lingeringConn struct {
	net.Conn
	once sync.Once
	err  error
}

// Close implements net.Conn.
func (c *lingeringConn) Close() error {
	c.once.Do(func() {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = c.SetReadDeadline(time.Now().Add(lingerPatience)) // without it the peer has all the time it takes
			_, _ = io.Copy(io.Discard, c.Conn)
		}
		c.err = c.Conn.Close()
	})
	return c.err
}
