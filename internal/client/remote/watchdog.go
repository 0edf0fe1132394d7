package remote

import (
	"context"
	"time"
)

// watchdog ends a stream on which somebody waits for a revision that does not come by itself: a watch of few objects
// may see nothing for a minute while the cluster moves on.
type watchdog struct {
	quit chan struct{}
	done chan struct{}
	food chan struct{}
}

func (s *stream) guard(ctx context.Context, cancel context.CancelCauseFunc) *watchdog {
	w := &watchdog{quit: make(chan struct{}), done: make(chan struct{}), food: make(chan struct{}, 1)}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.quit:
				return
			case <-w.food:
			case <-s.view.behind:
				if w.starve(ctx, s.view.wanted) {
					cancel(errBehind)
					return
				}
			}
		}
	}()
	return w
}

// starve waits for as long as somebody wants a newer revision and reports whether patience ended without an event.
func (w *watchdog) starve(ctx context.Context, wanted func() bool) bool {
	for wanted() {
		timer := time.NewTimer(impatience)
		select {
		case <-ctx.Done():
		case <-w.quit:
		case <-w.food:
			timer.Stop()
			continue
		case <-timer.C:
			return wanted()
		}
		timer.Stop()
		return false
	}
	return false
}

func (w *watchdog) fed() {
	select {
	case w.food <- struct{}{}:
	default:
	}
}

func (w *watchdog) stop() {
	close(w.quit)
	<-w.done
}
