package runtime

import (
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// usageAge is how long a measurement of a layer's size is good: walking it costs.
const usageAge = 10 * time.Second

// usageCache remembers sizes of layers, and CPU times to make rates of. Its zero value is ready.
type usageCache struct {
	mu    sync.Mutex
	sizes map[string]size
	times map[string]cpuTime
}

type size struct {
	at            time.Time
	bytes, inodes uint64
}

type cpuTime struct {
	at    time.Time
	nanos uint64
	rate  uint64
}

// of measures what a folder takes on the disk.
func (u *usageCache) of(id, dir string) size {
	u.mu.Lock()
	known, ok := u.sizes[id]
	u.mu.Unlock()
	if ok && time.Since(known.at) < usageAge {
		return known
	}
	fresh := size{at: time.Now()}
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // deleted while being walked
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // deleted while being walked
		}
		fresh.inodes++
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			fresh.bytes += uint64(stat.Blocks) * 512
		}
		return nil
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sizes == nil {
		u.sizes = map[string]size{}
	}
	u.sizes[id] = fresh
	return fresh
}

// rate tells how many nanoseconds of CPU time were used per second since the measurement before.
func (u *usageCache) rate(id string, nanos uint64, at time.Time) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	before, ok := u.times[id]
	elapsed := at.Sub(before.at)
	if ok && elapsed < time.Second {
		return before.rate // too close to say anything
	}
	current := cpuTime{at: at, nanos: nanos}
	if ok && nanos >= before.nanos {
		current.rate = uint64(float64(nanos-before.nanos) / elapsed.Seconds())
	}
	if u.times == nil {
		u.times = map[string]cpuTime{}
	}
	u.times[id] = current
	return current.rate
}

func (u *usageCache) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sizes, id)
	delete(u.times, id)
}

func (rt *Runtime) upperDir(id string) string {
	return filepath.Join(rt.containerDir.Path(id), "upper")
}
