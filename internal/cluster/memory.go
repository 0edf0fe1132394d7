package cluster

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	memoryLook = 2 * time.Second
	// quietBytes is how much is allocated at most between two looks when a load is over.
	quietBytes = 3 << 20
	// worthBytes is how much must be there to be given back, beside a quarter of what is in use.
	worthBytes = 8 << 20
	// manyPages is how many bytes of files are mapped when it is worth finding out which of them are in use.
	manyPages = 24 << 20
	// memoryRest is how long nothing is given back after something was, as a multiple of what that took: a load that comes and goes
	// costs a hundredth of the time at most.
	memoryRest = 100
	// programRest is how long pages of the program are left alone after some were forgotten.
	programRest = 30 * time.Second
)

const (
	loadLook = time.Second
	// loadBytes is what is allocated between two looks at least while there is a load.
	loadBytes = 16 << 20
	// lastingBytes is what a load has allocated when it gets more memory. What pods that start leave behind lies scattered over as much
	// heap as there was meanwhile, which can't be given back: a hundred of them allocate less.
	lastingBytes = 192 << 20
	// loadHeadroom is how much more garbage may lie about during a load.
	loadHeadroom = 64 << 20
)

// spendMemory lets a load that lasts have more memory, and so less often stop for collections, until ctx ends: a small heap would be collected
// many times a second. When the load is over the heap is as small as before.
func spendMemory(ctx context.Context) {
	usual := debug.SetGCPercent(100)
	if debug.SetGCPercent(usual); usual != 100 {
		return // somebody has decided otherwise
	}
	defer debug.SetGCPercent(usual)
	look := time.NewTicker(loadLook)
	defer look.Stop()
	former, percent := readMemory(), usual
	var l load
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			use := readMemory()
			if wanted := l.gcPercent(use, former); wanted != percent {
				debug.SetGCPercent(wanted)
				percent = wanted
			}
			former = use
		}
	}
}

// load is how much has been allocated in looks in a row in each of which there has been one.
type load uint64

// gcPercent is how much garbage there may be for what is in use, after a further look.
func (l *load) gcPercent(now, former memoryUse) int {
	allocated := now.allocated - former.allocated
	if allocated < loadBytes {
		*l = 0
		return 100
	}
	if *l += load(allocated); *l < lastingBytes || now.live == 0 {
		return 100
	}
	// In steps, since each change stops the world for a moment.
	return 100 + int(min(100, loadHeadroom*100/now.live)/20*20)
}

// memoryUse is what the runtime holds.
type memoryUse struct {
	allocated uint64 // ever
	live      uint64 // what the last collection found in use
	objects   uint64 // live, and garbage since then
	free      uint64 // not in use, and not given back
	unused    uint64 // between objects in use
}

func readMemory() memoryUse {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	return memoryUse{
		allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(), objects: samples[2].Value.Uint64(),
		free: samples[3].Value.Uint64(), unused: samples[4].Value.Uint64(),
	}
}

// held is what is not in use.
func (m memoryUse) held() uint64 {
	held := m.free + m.unused
	if m.objects > m.live {
		held += m.objects - m.live
	}
	return held
}

// quiet tells whether little has been allocated since the former look.
func (m memoryUse) quiet(former memoryUse) bool { return m.allocated-former.allocated <= quietBytes }

// returnable tells whether a load, now over, has left memory that is worth a collection, beside what the last one could not give
// back. The runtime by itself keeps as much free as was in use at the peak, since it expects the load to come again.
func (m memoryUse) returnable(kept uint64) bool { return m.held() > kept+worthBytes+m.live/4 }

// returnMemory gives memory back to the system after the start and after loads, until ctx ends: what the process has follows what
// it stores and does. pack makes long-lived memory lie together.
func returnMemory(ctx context.Context, pack func(), log *slog.Logger) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	former := readMemory()
	var next, forgot time.Time
	var kept uint64
	loaded := true // a start is a load
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			use := readMemory()
			quiet := use.quiet(former)
			loaded = loaded || !quiet
			if quiet && loaded && now.After(next) && use.returnable(kept) {
				pack()
				debug.FreeOSMemory()
				next, use, loaded = time.Now().Add(memoryRest*time.Since(now)), readMemory(), false
				kept = use.held()
			}
			if quiet && now.Sub(forgot) > programRest && mappedFiles() > manyPages {
				forgot = now
				if err := forgetProgram(); err != nil {
					log.Warn("pages of the program that it seldom needs stay in memory", "error", err)
				}
			}
			kept = min(kept, use.held())
			former = use
		}
	}
}
