package lifecycle

import "time"

// CrashWaits are the waits before a container that has exited is started again: the first, and what it doubles up to.
type CrashWaits struct {
	First, Longest time.Duration
}

// goodRun is after what time a container's earlier exits are forgotten.
const goodRun = 10 * time.Minute

// Crash remembers the exits of one container. Its zero value has seen none: the first restart comes at once.
type Crash struct {
	Wait time.Duration
	last time.Time
}

// Until returns until when the container that exited at finished has to wait; zero when it may start.
func (c *Crash) Until(finished, now time.Time) time.Time {
	if c.Wait == 0 || finished.Sub(c.last) > goodRun {
		return time.Time{}
	}
	if until := finished.Add(c.Wait); now.Before(until) {
		return until
	}
	return time.Time{}
}

// Restart notes that the container that exited at finished is started again: the next wait is longer, unless it had run for long.
func (c *Crash) Restart(finished, now time.Time, waits CrashWaits) {
	switch {
	case c.Wait == 0 || finished.Sub(c.last) > goodRun:
		c.Wait = waits.First
	default:
		c.Wait = min(2*c.Wait, waits.Longest)
	}
	c.last = now
}
