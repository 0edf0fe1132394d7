package apiserver

import (
	"errors"

	"clipper.dev/clipper/internal/apiserver/request"
)

// limits bound the requests that are served at once.
type limits struct {
	reading, writing chan struct{}
}

func newLimits(reading, writing int) limits {
	return limits{make(chan struct{}, reading), make(chan struct{}, writing)}
}

var errBusy = errors.New("too many requests")

// enter counts a request in, or refuses it. Watches and streams, which last long and do little, are not counted.
func (l limits) enter(info *request.Info) (release func(), err error) {
	if longRunning(info) {
		return func() {}, nil
	}
	slots := l.writing
	switch info.Verb {
	case "get", "list", "watch", "head", "options":
		slots = l.reading
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
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
