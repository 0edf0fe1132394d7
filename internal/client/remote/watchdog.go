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
				if w.starves(ctx) && s.view.wanted() {
					cancel(errBehind)
					return
				}
			}
		}
	}()
	return w
}

// starves waits for as long as patience lasts and reports whether no event came meanwhile.
func (w *watchdog) starves(ctx context.Context) bool {
	timer := time.NewTimer(impatience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.quit:
		return false
	case <-w.food:
		return false
	case <-timer.C:
		return true
	}
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
