package server

import (
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/opencontainers/cgroups"

	"clipper.dev/clipper/internal/keeper/wire"
)

// The kernel guards moves between cgroups with a lock that is made for being taken seldom: the first
// taker waits some ten milliseconds for a grace period, those that follow soon after do not. When a
// container is about to come, the keeper takes it once, by a move of itself to where it is, so that
// the wait passes while other things are being done.

// warmer does this, once at a time.
type warmer struct {
	path string // of the keeper's own cgroup.procs
	busy atomic.Bool
}

func newWarmer() *warmer {
	w := &warmer{}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return w
	}
	if cgroups.IsCgroup2UnifiedMode() {
		w.path = filepath.Join("/sys/fs/cgroup", own[""], "cgroup.procs")
		return w
	}
	for _, controller := range []string{"pids", "freezer", "devices"} {
		if dir, err := cgroups.FindCgroupMountpoint("", controller); err == nil {
			w.path = filepath.Join(dir, own[controller], "cgroup.procs")
			return w
		}
	}
	return w
}

func (w *warmer) run() {
	if w.path == "" || !w.busy.CompareAndSwap(false, true) {
		return
	}
	defer w.busy.Store(false)
	// Nothing depends on it: without it the container's start waits itself.
	_ = os.WriteFile(w.path, []byte("0"), 0)
}

// prepare is told that a container is about to be started.
func (s *Server) prepare(*wire.Empty) error {
	s.calls.Go(s.warm.run)
	return nil
}
