package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// programs are processes of one side, in the order they were started. Their logs lie in its folder.
type programs struct {
	dir     string
	running []*program
}

type program struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts a program. It dies with this process, however that ends; a signal from the terminal reaches it in its turn only.
func (p *programs) start(path string, args ...string) error {
	name := filepath.Base(path)
	out, err := os.Create(filepath.Join(p.dir, name+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	started := &program{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(started.ended)
		cmd.Wait() // how it ended is in its log
	}()
	p.running = append(p.running, started)
	return nil
}

// pids returns the processes that start(path) began, in order.
func (p *programs) pids() []int {
	var pids []int
	for _, r := range p.running {
		pids = append(pids, r.cmd.Process.Pid)
	}
	return pids
}

// stop ends the programs, the last one first.
func (p *programs) stop() error {
	const patience = 15 * time.Second
	var errs []error
	for i := len(p.running) - 1; i >= 0; i-- {
		r := p.running[i]
		r.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
		select {
		case <-r.ended:
		case <-time.After(patience):
			r.cmd.Process.Kill()
			<-r.ended
			errs = append(errs, fmt.Errorf("%s had to be killed", filepath.Base(r.cmd.Path)))
		}
	}
	p.running = nil
	return errors.Join(errs...)
}

// processes finds processes by their arguments.
func processes(are func(args []string) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(data) == 0 {
			continue // it ended, or is the kernel's
		}
		if are(strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
