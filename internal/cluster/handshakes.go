package cluster

import (
	"bytes"
	"io"
	"log"

	"github.com/prometheus/client_golang/prometheus"
)

// handshakeErrors is a server's log that counts the connections which TLS did not come about on.
func handshakeErrors(r prometheus.Registerer, to *log.Logger) *log.Logger {
	count := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "apiserver_tls_handshake_errors_total", Help: "Number of requests dropped with 'TLS handshake error from' error",
	})
	r.MustRegister(count)
	return log.New(&handshakeCounter{to.Writer(), count}, "", 0)
}

type handshakeCounter struct {
	to    io.Writer
	count prometheus.Counter
}

// Write implements io.Writer. It is given a line at a time.
func (c *handshakeCounter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error from")) {
		c.count.Inc()
	}
	return c.to.Write(line)
}
