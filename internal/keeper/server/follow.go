package server

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// drainPatience is how long output may still come from outside the container after its end.
const drainPatience = time.Second

// follow waits for a container's end and completes it.
func (s *Server) follow(c *container) {
	status, known, ended := c.proc.wait()
	if !ended {
		return // this keeper hands over: its successor follows on
	}
	exit := wire.Exit{FinishedAt: time.Now(), Known: known, Code: 255}
	if known {
		exit.Code, exit.Signal = decode(status)
	}
	// Without a process namespace of its own a container may leave processes behind.
	if err := c.endAll(); err != nil {
		s.log.Warn("container left processes", "container", c.record.ID, "error", err)
	}
	exit.OOMKilled = oomKills(c) > 0
	c.streams.drain(drainPatience)
	s.conclude(c, &exit)
}

func decode(status unix.WaitStatus) (code, signal int) {
	if status.Signaled() {
		return 128 + int(status.Signal()), int(status.Signal())
	}
	return status.ExitStatus(), 0
}

// oomKills counts the processes of the container that the kernel killed for its memory limit.
func oomKills(c *container) uint64 {
	box, err := c.runtime()
	if err != nil {
		return 0
	}
	state, err := box.State()
	if err != nil {
		return 0
	}
	path, file := filepath.Join(state.CgroupPaths["memory"], "memory.oom_control"), "oom_kill"
	if cgroups.IsCgroup2UnifiedMode() {
		path = filepath.Join(state.CgroupPaths[""], "memory.events")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == file {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}

// conclude makes the exit known: first to the disk, then to everybody else.
func (s *Server) conclude(c *container, exit *wire.Exit) {
	box, err := c.runtime()
	if err == nil {
		err = box.Destroy()
	}
	if err != nil {
		s.log.Warn("container left something behind", "container", c.record.ID, "error", err)
	}
	c.mu.Lock()
	c.record.Exit = exit
	ended := c.record
	c.mu.Unlock()
	if err := s.writeRecord(&ended, true); err != nil {
		s.log.Error("an exit could not be recorded", "container", c.record.ID, "error", err)
	}
	c.proc.close()
	if err := os.RemoveAll(filepath.Join(s.pipeDir(), c.record.ID)); err != nil {
		s.log.Warn("container left its pipes", "container", c.record.ID, "error", err)
	}
	close(c.exited)
	s.announce(c.state())
}
