package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// libcontainer starts a process by way of two helpers that become the keeper's children at once and go
// by names of their own until they are done. When a container ends while a process enters it,
// libcontainer gives up without learning of them. Nobody else can wait for them, and the kernel does not
// let the container's init go before each process of its namespace was waited for: the container would
// seem to run for ever.

// helperName is how the helpers' names begin.
const helperName = "runc:["

// buryOrphans ends and waits for the helpers of starts that failed.
func (s *Server) buryOrphans() {
	// While no start is under way, nobody else waits for a child that bears such a name.
	s.births.Lock()
	defer s.births.Unlock()
	children, err := ownChildren()
	if err != nil {
		s.log.Warn("orphans may be left", "error", err)
		return
	}
	for _, pid := range children {
		if s.isContainer(pid) || !isHelper(pid) {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			s.log.Warn("orphan left", "pid", pid, "error", err)
			continue
		}
		_, _ = reap(pid) // fails only if it is gone
	}
}

// isContainer tells whether the process is the first one of a container that has started: it bears a
// helper's name for a moment longer, until its program is executed.
func (s *Server) isContainer(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c.proc != nil && c.proc.pid == pid {
			return true
		}
	}
	return false
}

func isHelper(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.HasPrefix(string(comm), helperName)
}

// ownChildren lists the children of all of this process's threads.
func ownChildren() ([]int, error) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended, and its children are another's
		}
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", list, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
