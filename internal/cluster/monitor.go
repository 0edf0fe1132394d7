package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// monitorSlack is by how much the kernel may put off the looks of Go's monitor.
const monitorSlack = time.Millisecond

// easeMonitor has Go's monitor look less often. The monitor is the thread that takes processors away from system calls that block and from
// goroutines that run for long. A process that has just become busy is looked at every 20 µs, which with the slack that threads have (50 µs) makes
// a dozen wake-ups for a request of a millisecond; on a virtual machine they cost a tenth to a fifth of what the request does itself.
func easeMonitor() error {
	thread, err := monitorThread()
	if err != nil {
		return fmt.Errorf("find the thread of Go's monitor: %w", err)
	}
	slack := strconv.FormatInt(monitorSlack.Nanoseconds(), 10)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timerslack_ns", thread), []byte(slack), 0); err != nil {
		return fmt.Errorf("set the timer slack of Go's monitor: %w", err)
	}
	return nil
}

// monitorThread returns the thread that was started after the process's first one. Numbers are given out in turn, and after the largest one from the
// smallest again: unsigned distances keep that order.
func monitorThread() (int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	first, next := os.Getpid(), 0
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil || id == first {
			continue
		}
		if next == 0 || uint32(id-first) < uint32(next-first) {
			next = id
		}
	}
	if next == 0 {
		return 0, errors.New("the process has one thread")
	}
	return next, nil
}
