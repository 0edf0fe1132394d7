package server

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/guard"
	"clipper.dev/clipper/internal/keeper/wire"
)

// An ordinary container, which is nearly every one, is not set up by libcontainer but by the entry: a process of the keeper's
// own program that carries out a script before Go's runtime would start, in C and with one thread (guard/entry.c). It does what
// libcontainer's init does, in a fifth of the processor's time. What a container may want beyond, such as a
// terminal or a user namespace, is refused by writeScript; and when the entry fails for whatever reason libcontainer has its try, so that its
// verdict and its words count. Everything after the start is libcontainer's in either case: its state is written as it would.

// entry is such a process before it has become the container's program.
type entry struct {
	pid     int
	control *os.File // the script goes in, verdicts come out
	gate    *os.File // opens when something is written to it
}

// enterScript starts a container by the entry up to the gate.
func (s *Server) enterScript(config *configs.Config, process *libcontainer.Process, request *wire.Start, child *childFiles) (*entry, error) {
	group, err := manager.New(config.Cgroups)
	if err != nil {
		return nil, fmt.Errorf("find the control groups: %w", err)
	}
	program, err := writeScript(&entryInput{config: config, process: process, request: request, groups: group.GetPaths()})
	if err != nil {
		return nil, err
	}
	if err := group.Apply(-1); err != nil {
		return nil, fmt.Errorf("make the control groups: %w", err)
	}
	if err := group.Set(config.Cgroups.Resources); err != nil {
		return nil, fmt.Errorf("limit the control groups: %w", err)
	}
	e, err := startEntry(config, group.Path(unifiedHierarchy), child)
	if err != nil {
		return nil, err
	}
	err = e.instruct(program)
	if err == nil {
		err = s.saveState(request.ID, config, group, e.pid)
	}
	if err != nil {
		e.abandon()
		e.close()
		return nil, err
	}
	return e, nil
}

// startEntry clones the process into its own namespace of processes, and into its group of the second version of cgroups if there is one.
func startEntry(config *configs.Config, group string, child *childFiles) (*entry, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create the entry's socket: %w", err)
	}
	control, theirs := os.NewFile(uintptr(fds[0]), "entry"), os.NewFile(uintptr(fds[1]), "entry")
	defer theirs.Close()
	opened, gate, err := os.Pipe()
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("create the entry's gate: %w", err)
	}
	defer opened.Close()
	stdin := null
	if child.stdin != nil {
		stdin = child.stdin
	}
	attributes := &syscall.SysProcAttr{Setsid: true}
	if config.Namespaces.IsPrivate(configs.NEWPID) {
		attributes.Cloneflags = unix.CLONE_NEWPID
	}
	if group != "" {
		dir, err := os.Open(group)
		if err != nil {
			control.Close()
			gate.Close()
			return nil, fmt.Errorf("open the control group: %w", err)
		}
		defer dir.Close()
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(dir.Fd())
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"clipper-entry"}, &syscall.ProcAttr{
		Dir: "/", Env: []string{guard.EntryEnv}, Sys: attributes,
		Files: []uintptr{stdin.Fd(), child.stdout.Fd(), child.stderr.Fd(), theirs.Fd(), opened.Fd()},
	})
	if err != nil {
		control.Close()
		gate.Close()
		return nil, fmt.Errorf("start the entry: %w", err)
	}
	return &entry{pid: pid, control: control, gate: gate}, nil
}

// instruct gives the entry its script and hears how it went.
func (e *entry) instruct(script []byte) error {
	frame := binary.NativeEndian.AppendUint32(make([]byte, 0, 4+len(script)), uint32(len(script)))
	if _, err := e.control.Write(append(frame, script...)); err != nil {
		return fmt.Errorf("instruct the entry: %w", err)
	}
	var verdict [4]byte
	if _, err := io.ReadFull(e.control, verdict[:]); err != nil {
		return errors.New("the entry gave no answer")
	}
	if binary.NativeEndian.Uint32(verdict[:]) == 0 {
		return nil
	}
	const longest = 8 << 10
	message, err := io.ReadAll(io.LimitReader(e.control, longest))
	return errors.Join(fmt.Errorf("set up the container: %s", message), err)
}

// pass opens the gate: the entry becomes the container's program.
func (e *entry) pass() error {
	if _, err := e.gate.Write([]byte{1}); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return nil
}

// abandon ends the entry before it is anything else.
func (e *entry) abandon() {
	_ = syscall.Kill(e.pid, syscall.SIGKILL)
	_, _ = reap(e.pid)
}

func (e *entry) close() {
	e.control.Close()
	e.gate.Close()
}

// saveState writes what libcontainer wants to know of a running container, as it would itself.
func (s *Server) saveState(id string, config *configs.Config, group cgroups.Manager, pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	state := &libcontainer.State{
		BaseState: libcontainer.BaseState{
			ID: id, InitProcessPid: pid, InitProcessStartTime: started, Created: time.Now().UTC(), Config: *config,
		},
		CgroupPaths: group.GetPaths(), NamespacePaths: map[configs.NamespaceType]string{},
	}
	for _, ns := range config.Namespaces {
		state.NamespacePaths[ns.Type] = ns.GetPath(pid)
	}
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the container's state: %w", err)
	}
	dir := filepath.Join(s.libcontainerDir(), state.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.json"), data, 0o600); err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	return nil
}

// undoEntry takes away what a failed entry has left, so that libcontainer finds a clean place.
func (s *Server) undoEntry(config *configs.Config, request *wire.Start) error {
	var errs []error
	if group, err := manager.New(config.Cgroups); err == nil {
		errs = append(errs, group.Destroy())
	}
	// An overlay that was mounted volatile isn't mounted again with the same working folder.
	errs = append(errs, os.RemoveAll(filepath.Join(request.Rootfs.Work, "work")), os.RemoveAll(filepath.Join(s.libcontainerDir(), request.ID)))
	return errors.Join(errs...)
}
