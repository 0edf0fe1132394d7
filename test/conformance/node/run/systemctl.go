package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// unit is the name by which the suite finds the agent among systemd's units.
const unit = "kubelet-clipper"

// standIn is systemctl, as far as the suite asks for it, and sudo.
func standIn(name string, args []string) int {
	err := fmt.Errorf("%s: nothing to do", name)
	if len(args) > 0 {
		if name == "sudo" {
			err = become(args)
		} else {
			err = systemctl(args[0], args[1:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

func systemctl(verb string, args []string) error {
	n, err := recall()
	if err != nil {
		return fmt.Errorf("systemctl: %w", err)
	}
	switch verb {
	case "list-units":
		if n.pid() != 0 {
			fmt.Printf("%s.service loaded active running the agent\n", unit)
		} else if !slices.Contains(args, "--state=running") {
			fmt.Printf("%s.service loaded inactive dead the agent\n", unit)
		}
		return nil
	case "reset-failed", "daemon-reload":
		return nil
	case "kill", "stop":
		return n.stop()
	case "start":
		return n.start(context.Background())
	case "restart":
		if err := n.stop(); err != nil {
			return err
		}
		return n.start(context.Background())
	}
	return fmt.Errorf("systemctl %s: there is no systemd here", verb)
}

// pid is the agent's process, 0 if it doesn't run.
func (n *node) pid() int {
	data, err := os.ReadFile(n.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	if command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !strings.HasPrefix(string(command), "clipper\x00agent\x00") {
		return 0
	}
	return pid
}

// stop ends the agent. Containers run on.
func (n *node) stop() error {
	pid := n.pid()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the agent: %w", err)
	}
	for range 300 {
		if n.pid() != pid {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the agent, process %d, does not end", pid)
}
