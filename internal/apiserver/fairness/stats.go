package fairness

import "sync"

var (
	secondsBounds     = []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	lengthBounds      = []float64{0, 10, 25, 50, 100, 250, 500, 1000}
	watcherBounds     = []float64{0, 1, 10, 100, 1000, 10000}
	seatBounds        = []float64{1, 2, 4, 8, 16, 32, 64, 100}
	utilizationBounds = []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1}
	requestBounds     = []float64{0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1}
	demandBounds      = []float64{0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.7, 2, 2.8, 4, 6}
	tallyBounds       = []float64{0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1}
)

// stats count the requests of one schema in one level. The level's lock guards them.
type stats struct {
	level  *level
	schema string

	dispatched, unaccommodated  int
	full, concurrency, timedOut int // refused, by reason
	executing, seats            int
	waiting, waitingSeats       int

	queueLength, watchers, estimated histogram
	waitedFor, waitedInVain          histogram
	regular, watch                   histogram // execution
}

func newStats(l *level, schema string) *stats {
	s := &stats{level: l, schema: schema}
	s.queueLength.bounds, s.watchers.bounds, s.estimated.bounds = lengthBounds, watcherBounds, seatBounds
	for _, h := range []*histogram{&s.waitedFor, &s.waitedInVain, &s.regular, &s.watch} {
		h.bounds = secondsBounds
	}
	return s
}

func (s *stats) waited(execute bool) *histogram {
	if execute {
		return &s.waitedFor
	}
	return &s.waitedInVain
}

func (s *stats) executed(verb string) *histogram {
	if verb == "watch" {
		return &s.watch
	}
	return &s.regular
}

func (s *stats) noteWatchers(n int) {
	s.level.mu.Lock()
	defer s.level.mu.Unlock()
	s.watchers.observe(float64(n))
}

// levelMeters are a level's use over time.
type levelMeters struct{ executing, waiting, seats, demand meter }

func newLevelMeters(now int64) levelMeters {
	return levelMeters{newMeter(requestBounds, now), newMeter(requestBounds, now), newMeter(utilizationBounds, now), newMeter(demandBounds, now)}
}

// A tally counts the server's requests of one kind, reading or writing, in all levels.
type tally struct {
	kind string

	mu                        sync.Mutex
	executing, waiting        int
	executingMeter, waitMeter meter

	// The most that executed at once, and waited, in the second that runs and in the one before.
	second          int64
	peak, last      int
	waitPeak, waits int
}

func newTally(kind string, now int64) *tally {
	return &tally{kind: kind, executingMeter: newMeter(tallyBounds, now), waitMeter: newMeter(tallyBounds, now)}
}

func (t *tally) executes(n int, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.executing += n
	t.peak = max(t.peak, t.executing)
	t.executingMeter.set(now, float64(t.executing))
}

func (t *tally) queued(n int, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.waiting += n
	t.waitPeak = max(t.waitPeak, t.waiting)
	t.waitMeter.set(now, float64(t.waiting))
}

// turn begins a new second if it is time. t.mu is held.
func (t *tally) turn(now int64) {
	second := now / 1e9
	if second == t.second {
		return
	}
	t.last, t.waits = t.peak, t.waitPeak
	if second > t.second+1 {
		t.last, t.waits = t.executing, t.waiting // nothing changed for a whole second
	}
	t.second, t.peak, t.waitPeak = second, t.executing, t.waiting
}

// scale sets what the tally is held against: how many requests can execute and wait.
func (t *tally) scale(executing, waiting int, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.executingMeter.scale(now, float64(max(1, executing)))
	t.waitMeter.scale(now, float64(max(1, waiting)))
}
