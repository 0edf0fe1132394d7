package server

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"clipper.dev/clipper/internal/keeper/wire"
)

// serveAttach connects the caller's files with a container's streams.
func (s *Server) serveAttach(conn *wire.Conn, body json.RawMessage, files []*os.File) {
	c, stdin, a, err := s.prepareAttach(body, files)
	if err != nil {
		_ = reply(conn, nil, err)
		return
	}
	defer closeFiles([]*os.File{stdin, a.stdout, a.stderr})
	c.streams.attach(a)
	defer c.streams.detach(a)
	if reply(conn, wire.Empty{}, nil) != nil {
		return
	}
	fed := make(chan struct{})
	if stdin != nil {
		s.calls.Go(func() {
			defer close(fed)
			c.streams.feed(stdin)
		})
	}
	gone := make(chan struct{})
	s.calls.Go(func() {
		defer close(gone)
		var ignored json.RawMessage
		_, _ = conn.Receive(&ignored) // returns when the caller leaves
	})
	select {
	case <-c.streams.ended:
		_ = reply(conn, wire.Empty{}, nil)
	case <-gone:
	case <-a.done:
	case <-s.quit:
	}
	if stdin != nil {
		stdin.Close() // ends the copy
		<-fed
	}
}

func (s *Server) prepareAttach(body json.RawMessage, files []*os.File) (*container, *os.File, *attachment, error) {
	var request wire.Attach
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, nil, nil, invalid("decode attach: %v", err)
	}
	c, err := s.container(request.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	if !c.running() {
		return nil, nil, nil, notRunning(request.ID)
	}
	var stdin *os.File
	a := &attachment{done: make(chan struct{})}
	for _, wanted := range []struct {
		on   bool
		file **os.File
	}{{request.Stdin, &stdin}, {request.Stdout, &a.stdout}, {request.Stderr, &a.stderr}} {
		if !wanted.on {
			continue
		}
		if len(files) == 0 {
			return nil, nil, nil, invalid("attach to container %s lacks a file", request.ID)
		}
		if *wanted.file, err = pollable(files[0]); err != nil {
			return nil, nil, nil, err
		}
		files = files[1:]
	}
	return c, stdin, a, nil
}

// pollable duplicates a passed file so that its use can be interrupted.
func pollable(file *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("take a passed file: %w", err)
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("take a passed file: %w", err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}
