package lifecycle

import "time"

// The waits before a container that has exited is started again.
const (
	firstCrashWait   = 10 * time.Second
	LongestCrashWait = 5 * time.Minute
)

// Crash remembers the exits of one container. Its zero value has seen none: the first restart comes at once.
type Crash struct {
	Wait time.Duration
	last time.Time
}

// Until returns until when the container that exited at finished has to wait; zero when it may start.
func (c *Crash) Until(finished, now time.Time) time.Time {
	if c.Wait == 0 || finished.Sub(c.last) > 2*LongestCrashWait {
		return time.Time{}
	}
	if until := finished.Add(c.Wait); now.Before(until) {
		return until
	}
	return time.Time{}
}

// Restart notes that the container that exited at finished is started again: the next wait is longer, unless it had run for long.
func (c *Crash) Restart(finished, now time.Time) {
	switch {
	case c.Wait == 0 || finished.Sub(c.last) > 2*LongestCrashWait:
		c.Wait = firstCrashWait
	default:
		c.Wait = min(2*c.Wait, LongestCrashWait)
	}
	c.last = now
}
