package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// container is a container whose process was started.
type container struct {
	record  record
	streams *streams
	// runtime is libcontainer's view of the container; one that the entry has started is loaded when it is first asked for.
	runtime func() (*libcontainer.Container, error)
	proc    *process // nil once it has ended

	mu     sync.Mutex // guards exit and record.Exit
	exited chan struct{}
}

func (c *container) state() wire.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wire.Container{
		ID:        c.record.ID,
		Sandbox:   c.record.Sandbox,
		PID:       c.record.PID,
		StartedAt: c.record.StartedAt,
		Exit:      c.record.Exit,
	}
}

// loaded is a runtime that is there already.
func loaded(box *libcontainer.Container) func() (*libcontainer.Container, error) {
	return func() (*libcontainer.Container, error) { return box, nil }
}

// toLoad is a runtime that is read when it is first asked for.
func (s *Server) toLoad(id string) func() (*libcontainer.Container, error) {
	return sync.OnceValues(func() (*libcontainer.Container, error) { return libcontainer.Load(s.libcontainerDir(), id) })
}

func (c *container) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

func (s *Server) signal(request *wire.Signal) error {
	c, err := s.container(request.ID)
	if err != nil {
		return err
	}
	if !c.running() {
		return notRunning(c.record.ID)
	}
	if err := c.proc.signal(syscall.Signal(request.Signal)); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return notRunning(c.record.ID)
		}
		return fmt.Errorf("signal container %s: %w", request.ID, err)
	}
	if request.All {
		return c.signalAll(syscall.Signal(request.Signal))
	}
	return nil
}

// signalAll reaches every process of the container's cgroup.
func (c *container) signalAll(signal syscall.Signal) error {
	pids, err := c.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal) // one that has ended meanwhile needs no signal
	}
	return nil
}

// processes lists those in the container's cgroup; none once that is gone.
func (c *container) processes() ([]int, error) {
	box, err := c.runtime()
	if err != nil {
		return nil, err
	}
	pids, err := box.Processes()
	if errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

// endPatience bounds how long killed processes may take to end; one that waits for a broken disk may never.
const endPatience = 10 * time.Second

// endAll kills every process that is left in the container's cgroup, also those that fork meanwhile, and
// waits until they have ended.
func (c *container) endAll() error {
	deadline := time.Now().Add(endPatience)
	for {
		pids, err := c.processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			endProcess(pid, deadline)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
	}
}

// endProcess kills a process and waits for its end.
func endProcess(pid int, deadline time.Time) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, _ = unix.Poll(ended, int(time.Until(deadline).Milliseconds())+1)
}

func (s *Server) remove(request *wire.Target) error {
	if err := checkID(request.ID); err != nil {
		return err
	}
	c, err := s.container(request.ID)
	if err != nil {
		return s.removeLeftovers(request.ID)
	}
	if c.running() {
		if err := c.proc.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill container %s: %w", request.ID, err)
		}
		<-c.exited
	}
	s.mu.Lock()
	delete(s.containers, request.ID)
	s.mu.Unlock()
	return s.removeLeftovers(request.ID)
}

// removeLeftovers deletes what a container has on disk; it succeeds when there is nothing.
func (s *Server) removeLeftovers(id string) error {
	if err := removeMount(filepath.Join(s.rootfsDir(), id)); err != nil {
		return err
	}
	for _, dir := range []string{s.volumeDir(id), filepath.Join(s.mountDir(), "mapped", id)} {
		if err := removeMounts(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{filepath.Join(s.pipeDir(), id), filepath.Join(s.libcontainerDir(), id)} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove leftovers of container %s: %w", id, err)
		}
	}
	return s.removeRecord(id)
}

func (s *Server) resize(request *wire.Resize) error {
	c, err := s.container(request.ID)
	if err != nil {
		return err
	}
	if !c.running() {
		return notRunning(request.ID)
	}
	return c.streams.resize(request.Width, request.Height)
}

func (s *Server) reopenLog(request *wire.Target) error {
	c, err := s.container(request.ID)
	if err != nil {
		return err
	}
	if !c.running() {
		return notRunning(request.ID)
	}
	return c.streams.log.reopen()
}
