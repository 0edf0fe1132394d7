package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"clipper.dev/clipper/internal/keeper/wire"
)

// adopt takes over what an earlier keeper left: containers that still run are followed on, the end of
// the others is recorded as far as it can be known, and half-made ones are cleared away.
func (s *Server) adopt(inherited map[string]inheritedContainer) error {
	records, err := s.readRecords()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range records {
		known[r.ID] = true
		if r.Exit != nil {
			exited := make(chan struct{})
			close(exited)
			s.containers[r.ID] = &container{record: *r, exited: exited}
			continue
		}
		var left *inheritedContainer
		if from, ok := inherited[r.ID]; ok {
			left = &from
		}
		if err := s.adoptOne(r, boot, left); err != nil {
			return err
		}
	}
	return s.clearUnknown(known)
}

func (s *Server) adoptOne(r *record, boot string, left *inheritedContainer) error {
	c := &container{record: *r, exited: make(chan struct{})}
	s.containers[r.ID] = c
	box, loadErr := libcontainer.Load(s.libcontainerDir(), r.ID)
	var proc *process
	err := fmt.Errorf("the machine was restarted")
	if r.Boot == boot {
		proc, err = readopt(r.PID, r.StartTime)
	}
	if err = errors.Join(err, loadErr); err == nil {
		c.runtime, c.proc = loaded(box), proc
		c.streams = s.adoptStreams(r, left)
		c.streams.pump()
		s.adoptSandbox(c)
		s.watchers.Go(func() { s.follow(c) })
		s.log.Info("adopted a running container", "container", r.ID, "pid", r.PID)
		return nil
	}
	s.log.Warn("a container ended unseen", "container", r.ID, "error", err)
	if loadErr == nil {
		if err := box.Destroy(); err != nil {
			s.log.Warn("container left something behind", "container", r.ID, "error", err)
		}
	}
	c.record.Exit = &wire.Exit{Code: 255, FinishedAt: time.Now()}
	close(c.exited)
	return s.writeRecord(&c.record, true)
}

// adoptStreams finds the streams of a container again: what a predecessor handed over, else the pipes
// by their names. Without a hand-over a terminal has ended with the keeper that held it.
func (s *Server) adoptStreams(r *record, left *inheritedContainer) *streams {
	log, err := newContainerLog(r.LogPath)
	if err != nil {
		s.log.Warn("log of an adopted container cannot be opened", "container", r.ID, "error", err)
	}
	st := newStreams(log)
	if left != nil {
		st.stdinOnce = left.StdinOnce
		st.stdin = inheritFile(left.Stdin, false)
		if left.Pending != nil {
			log.pending = left.Pending
		}
		if st.terminal = inheritFile(left.Terminal, true); st.terminal != nil {
			st.stdout = st.terminal
			st.stdin = st.terminal
		}
	}
	if r.Terminal {
		return st
	}
	dir := filepath.Join(s.pipeDir(), r.ID)
	for name, file := range map[string]**os.File{"stdout": &st.stdout, "stderr": &st.stderr} {
		if *file, err = openReader(filepath.Join(dir, name)); err != nil {
			s.log.Warn("output of an adopted container is lost", "container", r.ID, "stream", name, "error", err)
			*file = nil
		}
	}
	return st
}

// adoptSandbox holds the sandbox's namespaces again, through a process that is in them.
func (s *Server) adoptSandbox(c *container) {
	sb, ok := s.sandboxes[c.record.Sandbox]
	if !ok {
		sb = &sandbox{id: c.record.Sandbox, namespaces: map[string]*os.File{}}
		if shm := filepath.Join(s.shmDir(), sb.id); exists(shm) {
			sb.shm = shm
		}
		s.sandboxes[sb.id] = sb
	}
	if sb.reaper == nil {
		sb.reaper = s.recallReaper(sb.id)
	}
	for _, kind := range c.record.Joined {
		if sb.namespaces[kind] != nil {
			continue
		}
		if err := sb.open(fmt.Sprintf("/proc/%d/ns", c.record.PID), []string{kind}); err != nil {
			s.log.Warn("a sandbox lost a namespace", "sandbox", sb.id, "error", err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// clearUnknown removes what has no record: containers that were being made when the keeper ended.
func (s *Server) clearUnknown(known map[string]bool) error {
	for _, dir := range []string{s.libcontainerDir(), s.pipeDir(), s.rootfsDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
		for _, entry := range entries {
			if known[entry.Name()] {
				continue
			}
			if box, err := libcontainer.Load(s.libcontainerDir(), entry.Name()); err == nil {
				_ = box.Signal(os.Kill)
				if err := box.Destroy(); err != nil {
					s.log.Warn("a half-made container is left", "container", entry.Name(), "error", err)
				}
			}
			if err := s.removeLeftovers(entry.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}
