package apiserver

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/apiserver/request"
)

// limits bound the requests that are served at once.
type limits struct{ reading, writing lane }

func (l *limits) init(reading, writing int, m *metrics) {
	l.reading.slots, l.reading.gauge = make(chan struct{}, reading), m.current.WithLabelValues("readOnly")
	l.writing.slots, l.writing.gauge = make(chan struct{}, writing), m.current.WithLabelValues("mutating")
}

var errBusy = errors.New("too many requests")

const (
	// queueLimit bounds the requests of a kind that wait for their turn; the others are refused at once.
	queueLimit = 4000
	// queueTime is how long a request waits at most.
	queueTime = 15 * time.Second
)

// enter counts a request in, once there is room, or refuses it. Watches and streams, which last long and do little, are not counted.
func (l *limits) enter(ctx context.Context, info *request.Info) (release func(), err error) {
	if longRunning(info) {
		return func() {}, nil
	}
	lane := &l.writing
	switch info.Verb {
	case "get", "list", "watch", "head", "options":
		lane = &l.reading
	}
	if err := lane.enter(ctx); err != nil {
		return nil, err
	}
	lane.gauge.Inc()
	return func() { <-lane.slots; lane.gauge.Dec() }, nil
}

// A lane is the room for one kind of requests, and the queue for it.
type lane struct {
	slots   chan struct{}
	waiting atomic.Int64
	gauge   prometheus.Gauge
}

func (l *lane) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > queueLimit {
		return errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusy
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
