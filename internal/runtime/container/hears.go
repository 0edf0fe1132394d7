package container

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Hears tells whether a signal that is sent now reaches a process. The kernel drops one for the first process of a PID namespace that has
// neither a handler for it nor blocks it, as a program has at its beginning. A process that can't be looked at hears.
func Hears(pid int, signal syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || hears(string(status), signal)
}

// hears reads a process's status, in the kernel's form. One that ignores a signal has made up its mind: waiting wouldn't change it.
func hears(status string, signal syscall.Signal) bool {
	if signal == syscall.SIGKILL || signal == syscall.SIGSTOP {
		return true
	}
	first, minded := false, false
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		switch fields := strings.Fields(value); {
		case len(fields) == 0:
		case key == "NSpid":
			first = len(fields) > 1 && fields[len(fields)-1] == "1"
		case key == "SigBlk" || key == "SigIgn" || key == "SigCgt":
			set, err := strconv.ParseUint(fields[0], 16, 64)
			minded = minded || err != nil || set&(1<<(signal-1)) != 0
		}
	}
	return minded || !first
}
