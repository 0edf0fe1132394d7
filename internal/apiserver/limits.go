package apiserver

import (
	"errors"

	"clipper.dev/clipper/internal/apiserver/request"
)

// limits bound the requests that are served at once.
type limits struct {
	reading, writing chan struct{}
	metrics          *metrics
}

func newLimits(reading, writing int, m *metrics) limits {
	return limits{make(chan struct{}, reading), make(chan struct{}, writing), m}
}

var errBusy = errors.New("too many requests")

// enter counts a request in, or refuses it. Watches and streams, which last long and do little, are not counted.
func (l limits) enter(info *request.Info) (release func(), err error) {
	if longRunning(info) {
		return func() {}, nil
	}
	slots, kind := l.writing, "mutating"
	switch info.Verb {
	case "get", "list", "watch", "head", "options":
		slots, kind = l.reading, "readOnly"
	}
	select {
	case slots <- struct{}{}:
		gauge := l.metrics.current.WithLabelValues(kind)
		gauge.Inc()
		return func() { <-slots; gauge.Dec() }, nil
	default:
		return nil, errBusy
	}
}

// longRunning tells which requests have no time limit.
func longRunning(info *request.Info) bool {
	if info.Verb == "watch" || info.Verb == "proxy" {
		return true
	}
	switch info.Subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}
