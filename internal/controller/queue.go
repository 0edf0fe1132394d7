package controller

import (
	"container/heap"
	"sync"
	"time"
)

// Upstream's backoff for each key.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 1000 * time.Second
)

// queue holds the keys that wait for a worker. A key lies in it at most once, however often it is added, and is never handed
// out to two workers at a time: when it is added while somebody works on it, it comes again afterwards. So the queue is
// bounded by the number of keys.
//
// It has no goroutines of its own: work is called, at most workers times concurrently, for as long as there are keys.
type queue struct {
	workers int
	work    func(Key)
	metrics *queueMetrics

	mu       sync.Mutex
	idle     sync.Cond // signalled when active becomes 0
	started  bool
	closed   bool
	active   int
	ready    []Key
	dirty    map[Key]time.Time // waiting since
	busy     map[Key]time.Time // worked on since
	failures map[Key]int
	later    delayed
	waits    map[Key]*wait
	timer    *time.Timer
}

func newQueue(workers int, work func(Key), metrics *queueMetrics) *queue {
	q := &queue{
		workers:  workers,
		work:     work,
		metrics:  metrics,
		dirty:    map[Key]time.Time{},
		busy:     map[Key]time.Time{},
		failures: map[Key]int{},
		waits:    map[Key]*wait{},
	}
	q.idle.L = &q.mu
	return q
}

// start lets the keys go.
func (q *queue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.started = true
	q.hire()
}

// stop forgets all keys and waits for the workers.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready = nil
	if q.timer != nil {
		q.timer.Stop()
	}
	for q.active > 0 {
		q.idle.Wait()
	}
}

// add queues a key.
func (q *queue) add(key Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(key)
}

func (q *queue) addLocked(key Key) {
	if q.closed {
		return
	}
	if _, ok := q.dirty[key]; ok {
		return
	}
	q.metrics.added()
	q.dirty[key] = time.Now()
	if _, ok := q.busy[key]; ok {
		return
	}
	q.ready = append(q.ready, key)
	q.hire()
}

// hire starts workers while there are keys for them. Called with mu held.
func (q *queue) hire() {
	for q.started && !q.closed && q.active < q.workers && q.active < len(q.ready)+len(q.busy) {
		q.active++
		go q.worker()
	}
}

func (q *queue) worker() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) > 0 && !q.closed {
		key := q.ready[0]
		q.ready = q.ready[1:]
		now := time.Now()
		q.metrics.waited(now.Sub(q.dirty[key]))
		delete(q.dirty, key)
		q.busy[key] = now

		q.mu.Unlock()
		q.work(key)
		q.mu.Lock()

		q.metrics.worked(time.Since(now))
		delete(q.busy, key)
		if _, again := q.dirty[key]; again && !q.closed {
			q.ready = append(q.ready, key)
		}
	}
	q.active--
	if q.active == 0 {
		q.idle.Broadcast()
	}
}

// retry queues a key again after its backoff, which doubles with each call until forget.
func (q *queue) retry(key Key) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.failures[key]
	q.failures[key] = n + 1
	delay := maxBackoff
	if n < 18 { // 5 ms shifted by 18 is beyond the maximum
		delay = min(minBackoff<<n, maxBackoff)
	}
	q.metrics.retried()
	q.addAfterLocked(key, delay)
	return delay
}

// forget ends a key's backoff.
func (q *queue) forget(key Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.failures, key)
}

// addAfter queues a key after a time. A key waits once: for the earliest of the times asked for.
func (q *queue) addAfter(key Key, after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addAfterLocked(key, after)
}

func (q *queue) addAfterLocked(key Key, after time.Duration) {
	if q.closed {
		return
	}
	if after <= 0 {
		q.addLocked(key)
		return
	}
	at := time.Now().Add(after)
	if w, ok := q.waits[key]; ok {
		if !at.Before(w.at) {
			return
		}
		w.at = at
		heap.Fix(&q.later, w.index)
	} else {
		w := &wait{key: key, at: at}
		q.waits[key] = w
		heap.Push(&q.later, w)
	}
	q.arm()
}

// arm sets the timer for the earliest wait. Called with mu held.
func (q *queue) arm() {
	if len(q.later) == 0 {
		return
	}
	after := time.Until(q.later[0].at)
	if q.timer == nil {
		q.timer = time.AfterFunc(after, q.ring)
		return
	}
	q.timer.Reset(after)
}

func (q *queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	now := time.Now()
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		w := heap.Pop(&q.later).(*wait)
		delete(q.waits, w.key)
		q.addLocked(w.key)
	}
	q.arm()
}

// wait is one key that becomes ready later.
type wait struct {
	key   Key
	at    time.Time
	index int
}

type delayed []*wait

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d delayed) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}
func (d *delayed) Push(x any) {
	w := x.(*wait)
	w.index = len(*d)
	*d = append(*d, w)
}
func (d *delayed) Pop() any {
	old := *d
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return w
}
