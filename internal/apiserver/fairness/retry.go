package fairness

import "sync"

// maxRetryAfter bounds what refused clients are told to wait, in seconds.
const maxRetryAfter = 32

// A backoff tells refused clients when to come again: the later, the more were refused lately.
type backoff struct {
	mu      sync.Mutex
	after   int64 // seconds to wait; 0 is 1
	raised  int64 // the second of the last doubling
	current drops
	past    [maxRetryAfter]drops // by second, modulo its length
}

// drops are how many requests were refused within a second.
type drops struct{ second, requests int64 }

// refused counts a refusal and returns how many seconds the client shall wait.
func (b *backoff) refused(second int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.after = max(b.after, 1)
	if second != b.current.second {
		b.past[b.current.second%maxRetryAfter] = b.current
		b.current = drops{second: second}
		b.adjust(second)
	}
	b.current.requests++
	return b.after
}

// adjust doubles the wait if three clients a second were refused while it lasted, and shortens it once it is less than one.
func (b *backoff) adjust(second int64) {
	var requests int64
	for s := second - b.after; s < second; s++ {
		if d := b.past[((s%maxRetryAfter)+maxRetryAfter)%maxRetryAfter]; d.second == s {
			requests += d.requests
		}
	}
	switch {
	case second-b.raised >= b.after && requests >= 3*b.after:
		b.after, b.raised = min(2*b.after, maxRetryAfter), second
	case requests < b.after && b.after > 1:
		b.after--
	}
}
