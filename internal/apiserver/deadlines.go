package apiserver

import (
	"net/http"
	"strings"
	"time"

	"clipper.dev/clipper/internal/apiserver/request"
)

const (
	// afterwards is how long the answer to a request that ran out of time may take to be sent.
	afterwards = 5 * time.Second
	// stall is how long a client may leave a piece of an endless answer unread.
	stall = time.Minute
)

// A deadliner is a response whose connection has deadlines.
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// bound lets neither a client that doesn't send its body nor one that doesn't read the answer hold what its request holds for longer than
// the request may last. What lasts as long as the client wants, as a watch does, is bounded piece by piece: HTTP/2 does that by itself.
func (s *Server) bound(w *response, r *http.Request, info *request.Info) {
	d, ok := w.ResponseWriter.(deadliner)
	if !ok {
		return // made inside the process
	}
	read, write := time.Time{}, time.Time{}
	switch {
	case !longRunning(info) && !strings.HasPrefix(r.URL.Path, "/debug/"):
		read = w.received.Add(s.timeLimit(r))
		write = read.Add(afterwards)
	case r.ProtoMajor == 1:
		w.rolling = d
	}
	// They replace those of the connection's last request, and fail on connections that have ended.
	_ = d.SetReadDeadline(read)
	_ = d.SetWriteDeadline(write)
}

// roll gives the client time for the next piece.
func (w *response) roll() {
	if w.rolling != nil && !w.hijacked {
		_ = w.rolling.SetWriteDeadline(time.Now().Add(stall)) // fails on connections that have ended, as writing will
	}
}
