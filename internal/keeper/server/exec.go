package server

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"

	"clipper.dev/clipper/internal/keeper/wire"
)

// serveExec runs a further process in a container, with streams that the caller brought or a new terminal.
func (s *Server) serveExec(conn *wire.Conn, body json.RawMessage, files []*os.File) {
	defer closeFiles(files)
	process, master, err := s.exec(body, files)
	if err != nil {
		_ = reply(conn, nil, err)
		return
	}
	closeFiles(files) // the process has its own copies now; ours would hide the end of its output
	pid, err := process.Pid()
	if err != nil {
		_ = reply(conn, nil, err)
		return
	}
	var sent []*os.File
	if master != nil {
		sent = append(sent, master)
	}
	err = reply(conn, wire.ExecStarted{PID: pid}, nil, sent...)
	closeFiles(sent)
	if err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.superviseExec(conn, process, pid)
}

// superviseExec waits for the process and kills it when the caller leaves before its end.
func (s *Server) superviseExec(conn *wire.Conn, process *libcontainer.Process, pid int) {
	var mu sync.Mutex
	ended := false
	s.calls.Go(func() {
		var ignored json.RawMessage
		_, _ = conn.Receive(&ignored) // returns when the caller leaves
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	state, err := process.Wait()
	mu.Lock()
	ended = true
	mu.Unlock()
	if state == nil {
		_ = reply(conn, nil, err)
		return
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	code := 255
	if ok && status.Signaled() {
		code = 128 + int(status.Signal())
	} else if ok {
		code = status.ExitStatus()
	}
	_ = reply(conn, wire.ExecExited{Code: code}, nil)
}

func (s *Server) exec(body json.RawMessage, files []*os.File) (*libcontainer.Process, *os.File, error) {
	var request wire.Exec
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, nil, invalid("decode exec: %v", err)
	}
	c, err := s.container(request.ID)
	if err != nil {
		return nil, nil, err
	}
	if !c.running() {
		return nil, nil, notRunning(request.ID)
	}
	if request.Process == nil || (!request.Terminal && len(files) != 3) {
		return nil, nil, invalid("incomplete exec in container %s", request.ID)
	}
	process, err := newProcess(request.Process)
	if err != nil {
		return nil, nil, err
	}
	process.ConsoleWidth, process.ConsoleHeight = request.Width, request.Height
	stage, err := newStage(&stageConfig{Seccomp: request.Seccomp, SeccompFlags: request.SeccompFlags})
	if err != nil {
		return nil, nil, err
	}
	defer stage.close()
	process.ExtraFiles = []*os.File{stage.theirs}
	if !request.Terminal {
		process.Stdin, process.Stdout, process.Stderr = files[0], files[1], files[2]
	}
	master, err := s.enter(c, process, request.Terminal)
	if err != nil {
		s.buryOrphans()
		return nil, nil, err
	}
	return process, master, nil
}

// enter starts a process in a container that runs; the terminal's master is nil if it has none.
func (s *Server) enter(c *container, process *libcontainer.Process, terminal bool) (*os.File, error) {
	s.births.RLock()
	defer s.births.RUnlock()
	box, err := c.runtime()
	if err != nil {
		return nil, fmt.Errorf("enter container %s: %w", c.record.ID, err)
	}
	if terminal {
		return startWithTerminal(box, process)
	}
	return nil, box.Start(process)
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}
