package apiserver

import (
	"context"
	"net/http"

	"clipper.dev/clipper/internal/store"
)

// gatherer is a response whose connection does in one goroutine what many of its streams have to do: see the package h2.
type gatherer interface {
	Gather(f func())
	Offer(p []byte) bool
}

func gathererOf(w http.ResponseWriter) gatherer {
	for {
		if g, ok := w.(gatherer); ok {
			return g
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = wrapper.Unwrap()
	}
}

// notify has events sent by the connection's gatherer, if it has one; nil wakes the handler.
func (s *watchStream) notify() func(*store.Watch) {
	if s.gathers == nil {
		return nil
	}
	var gathered func() // made once
	return func(watch *store.Watch) {
		if gathered == nil {
			gathered = func() { s.gathered(watch) }
		}
		s.gathers.Gather(gathered)
	}
}

// gathered sends what waits, as far as that is done at once. The rest is the handler's, as is everything while it is at work itself.
func (s *watchStream) gathered(watch *store.Watch) {
	if !s.turn.TryLock() {
		watch.Wake()
		return
	}
	defer s.turn.Unlock()
	batch, _, err := watch.Take(s.room)
	s.room = nil
	if err != nil || len(s.left) > 0 {
		s.left = append(s.left, batch...)
		watch.Wake()
		return
	}
	for i, e := range batch {
		if !s.offer(e) {
			s.left = batch[i:]
			watch.Wake()
			return
		}
	}
	clear(batch)
	s.room = batch
}

// offer sends an event if that is done at once. What can't be encoded is the handler's to tell of, and what panics, to panic with.
func (s *watchStream) offer(e store.Event) (sent bool) {
	defer func() {
		if recover() != nil {
			sent = false
		}
	}()
	frame, err := s.v.eventFrame(e, s)
	if err != nil || !s.gathers.Offer(frame) {
		return false
	}
	s.count(len(frame))
	s.sent = e.Revision()
	return true
}

// next waits for events, with the turn given up meanwhile, or for progress to be due, when there may be none. Nothing at or below upTo is
// still to come.
func (s *watchStream) next(ctx context.Context, watch *store.Watch) (batch []store.Event, upTo int64, err error) {
	for due := false; ; {
		if batch, s.left = s.left, nil; len(batch) > 0 {
			return batch, batch[len(batch)-1].Revision(), nil
		}
		if batch, upTo, err = watch.Take(nil); due || err != nil || len(batch) > 0 {
			return batch, upTo, err
		}
		s.turn.Unlock()
		due, err = watch.Wait(ctx)
		s.turn.Lock()
		if err != nil && len(s.left) == 0 {
			return nil, 0, err
		}
	}
}
