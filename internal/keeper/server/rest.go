package server

import (
	"runtime/debug"
	"time"
)

// restAfter is how long nothing is started or removed when the keeper is at rest.
const restAfter = 2 * time.Second

// collectPercent is how much garbage there may be beside what is in use, of which there is little.
const collectPercent = 50

// rest gives memory back to the system when starts and removals are over. By itself the runtime keeps what they have taken, for the
// next ones; a node's pods mostly run.
type rest struct{ timer *time.Timer }

func newRest() rest {
	debug.SetGCPercent(collectPercent)
	return rest{time.AfterFunc(restAfter, debug.FreeOSMemory)}
}

func (r rest) disturb() { r.timer.Reset(restAfter) }

func (r rest) end() { r.timer.Stop() }
