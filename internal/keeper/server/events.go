package server

import (
	"encoding/json"

	"clipper.dev/clipper/internal/keeper/wire"
)

// eventBacklog bounds the exits that wait for a slow subscriber; one that falls further behind is cut
// off and, on its return, learns everything from State.
const eventBacklog = 1024

// serveEvents sends every exit from now on until the connection closes.
func (s *Server) serveEvents(conn *wire.Conn) {
	exits := make(chan wire.Container, eventBacklog)
	s.mu.Lock()
	s.events[exits] = struct{}{}
	s.mu.Unlock()
	defer s.unsubscribe(exits)
	if err := reply(conn, wire.Empty{}, nil); err != nil {
		return
	}
	gone := make(chan struct{})
	s.calls.Go(func() {
		defer close(gone)
		var ignored json.RawMessage
		_, _ = conn.Receive(&ignored) // returns when the subscriber leaves
	})
	for {
		select {
		case exit, ok := <-exits:
			if !ok || reply(conn, exit, nil) != nil {
				return
			}
		case <-gone:
			return
		case <-s.quit:
			return
		}
	}
}

func (s *Server) unsubscribe(exits chan wire.Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.events, exits)
}

func (s *Server) announce(exit wire.Container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for exits := range s.events {
		select {
		case exits <- exit:
		default:
			close(exits)
			delete(s.events, exits)
		}
	}
}
