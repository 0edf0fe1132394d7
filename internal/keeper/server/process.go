package server

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process followed by a descriptor, whether or not it is this program's child.
type process struct {
	pid       int
	startTime uint64 // in the kernel's ticks since boot; with the PID it identifies the process
	pidfd     *os.File
}

// watchProcess opens a running process by its PID.
func watchProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	p.startTime, err = startTime(pid)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// readopt opens a process that was recorded; it fails if the PID belongs to another process by now.
func readopt(pid int, started uint64) (*process, error) {
	p, err := watchProcess(pid)
	if err != nil {
		return nil, err
	}
	if p.startTime != started {
		p.close()
		return nil, fmt.Errorf("process %d is another one than recorded", pid)
	}
	return p, nil
}

func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold spaces; the start time is the 20th field after it.
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("read the start time of process %d: malformed stat", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func (p *process) close() { p.pidfd.Close() }

func (p *process) signal(signal syscall.Signal) error {
	err := p.control(func(fd int) error { return unix.PidfdSendSignal(fd, signal, nil, 0) })
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func (p *process) control(do func(fd int) error) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = do(int(fd)) }); err != nil {
		return os.ErrProcessDone
	}
	return result
}

// wait blocks until the process has ended and returns how. known is false when the process was not a
// child of this program and the kernel does not tell strangers; ended is false when the wait was
// interrupted by a read deadline on the descriptor.
func (p *process) wait() (status unix.WaitStatus, known, ended bool) {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return 0, false, true
	}
	// The descriptor becomes readable at the exit; until then the goroutine parks in the poller.
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || (err != nil && err != unix.EINTR && err != unix.EAGAIN)
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, false, false
	}
	if status, err = reap(p.pid); err == nil {
		return status, true, true
	}
	status, known = p.exitOfStranger()
	return status, known, true
}

// reap waits for a child of this program and returns how it ended; it fails if the process is no child.
func reap(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, err
		}
	}
}

// reapWait bounds how long a zombie may stay one; its parent, the machine's init, reaps it at once.
const reapWait = 5 * time.Second

// exitOfStranger asks the kernel how a process ended that somebody else reaps. Kernels from 6.15 know
// it once the process has been reaped, which the descriptor announces as a hang-up.
func (p *process) exitOfStranger() (unix.WaitStatus, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := p.control(func(fd int) error {
		hangUp := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(hangUp, int(reapWait.Milliseconds()))
		return unix.IoctlPidfdInfo(fd, &info)
	})
	if err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.Exit_code), true
}
