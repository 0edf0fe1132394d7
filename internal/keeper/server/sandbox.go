package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// sandbox is a pod's namespaces, each held by a descriptor.
type sandbox struct {
	id         string
	namespaces map[string]*os.File // by OCI's name of the type
	shm        string
	reaper     *reaper
	starts     sync.WaitGroup // of containers, that are under way
}

// namespaceFiles maps OCI's names of namespace types to the names below /proc/<pid>/ns.
var namespaceFiles = map[string]string{
	"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid", "user": "user",
}

func (sb *sandbox) state() wire.Sandbox {
	state := wire.Sandbox{ID: sb.id, Shm: sb.shm, Namespaces: map[string]string{}}
	for kind, file := range sb.namespaces {
		state.Namespaces[kind] = namespacePath(file)
	}
	return state
}

// namespacePath opens the held namespace from any process; a path below /proc/self would not.
func namespacePath(file *os.File) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
}

func (sb *sandbox) close() {
	for _, file := range sb.namespaces {
		file.Close()
	}
}

func (s *Server) createSandbox(request *wire.CreateSandbox) (wire.Sandbox, error) {
	if err := checkID(request.ID); err != nil {
		return wire.Sandbox{}, err
	}
	s.mu.Lock()
	_, exists := s.sandboxes[request.ID]
	s.mu.Unlock()
	if exists {
		return wire.Sandbox{}, &wire.Error{Code: wire.CodeExists, Message: fmt.Sprintf("sandbox %s exists", request.ID)}
	}
	s.calls.Go(s.warm.run)
	sb := &sandbox{id: request.ID, namespaces: map[string]*os.File{}}
	if err := s.buildSandbox(sb, request); err != nil {
		s.dismantle(sb)
		return wire.Sandbox{}, err
	}
	s.mu.Lock()
	s.sandboxes[sb.id] = sb
	s.mu.Unlock()
	return sb.state(), nil
}

func (s *Server) buildSandbox(sb *sandbox, request *wire.CreateSandbox) error {
	build := sb.makeNamespaces
	if len(request.UIDs) > 0 {
		build = sb.makeOwnedNamespaces
	}
	if err := build(request, s.reaperDir()); err != nil {
		return err
	}
	if request.ShmBytes > 0 {
		return s.mountShm(sb, request)
	}
	return nil
}

// wantedNamespaces lists what the request asks for, as flags of clone and by OCI's names.
func wantedNamespaces(request *wire.CreateSandbox) (flags int, kinds []string) {
	for _, wanted := range []struct {
		on   bool
		flag int
		kind string
	}{
		{request.Network, unix.CLONE_NEWNET, "network"},
		{request.IPC, unix.CLONE_NEWIPC, "ipc"},
		{request.UTS, unix.CLONE_NEWUTS, "uts"},
	} {
		if wanted.on {
			flags |= wanted.flag
			kinds = append(kinds, wanted.kind)
		}
	}
	return flags, kinds
}

// makeNamespaces unshares on a thread of its own, which ends with the goroutine.
func (sb *sandbox) makeNamespaces(request *wire.CreateSandbox, dir string) error {
	flags, kinds := wantedNamespaces(request)
	if request.PID {
		if err := sb.startReaper(request, dir, unix.CLONE_NEWPID, []string{"pid"}); err != nil {
			return err
		}
	}
	if flags == 0 {
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoiled and ends here
		done <- func() error {
			if err := unix.Unshare(flags); err != nil {
				return fmt.Errorf("unshare the pod's namespaces: %w", err)
			}
			if err := configureNamespaces(request); err != nil {
				return err
			}
			return sb.open("/proc/thread-self/ns", kinds)
		}()
	}()
	return <-done
}

// configureNamespaces runs on a thread inside the new namespaces.
func configureNamespaces(request *wire.CreateSandbox) error {
	if request.UTS && request.Hostname != "" {
		if err := unix.Sethostname([]byte(request.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", request.Hostname, err)
		}
	}
	for name, value := range request.Sysctls {
		if strings.Contains(name, "..") {
			return invalid("sysctl name %q", name)
		}
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if _, err := os.Stat(path); err != nil && strings.Contains(name, "/") {
			// With a slash as separator a dot is part of a name, such as an interface's.
			path = filepath.Join("/proc/sys", name)
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
		}
	}
	return nil
}

func (sb *sandbox) open(dir string, kinds []string) error {
	for _, kind := range kinds {
		file, err := os.Open(filepath.Join(dir, namespaceFiles[kind]))
		if err != nil {
			return fmt.Errorf("hold the %s namespace: %w", kind, err)
		}
		sb.namespaces[kind] = file
	}
	return nil
}

// makeOwnedNamespaces makes a user namespace and the others inside it, so that the pod's root user
// owns them. A user namespace cannot be entered by a thread of a program with many, so a process is
// cloned into it: the reaper, which stays if the pod shares its processes and else ends at once.
func (sb *sandbox) makeOwnedNamespaces(request *wire.CreateSandbox, dir string) error {
	flags, kinds := wantedNamespaces(request)
	flags |= unix.CLONE_NEWUSER
	hold := append([]string{"user"}, kinds...)
	if request.PID {
		flags |= unix.CLONE_NEWPID
		hold = append(hold, "pid")
	}
	if err := sb.startReaper(request, dir, flags, hold); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoiled and ends here
		done <- func() error {
			for _, kind := range kinds {
				if err := unix.Setns(int(sb.namespaces[kind].Fd()), 0); err != nil {
					return fmt.Errorf("enter the new %s namespace: %w", kind, err)
				}
			}
			return configureNamespaces(request)
		}()
	}()
	if err := <-done; err != nil {
		return err
	}
	if request.PID {
		return nil
	}
	holder := sb.reaper
	sb.reaper = nil
	return holder.kill()
}

// startReaper clones the reaper into new namespaces and holds those listed.
func (sb *sandbox) startReaper(request *wire.CreateSandbox, dir string, flags int, hold []string) error {
	r, err := startReaper(request, uintptr(flags))
	if err != nil {
		return err
	}
	sb.reaper = r
	if err := r.remember(dir, request.ID); err != nil {
		return err
	}
	return sb.open(fmt.Sprintf("/proc/%d/ns", r.proc.pid), hold)
}

func (s *Server) mountShm(sb *sandbox, request *wire.CreateSandbox) error {
	path := filepath.Join(s.shmDir(), sb.id)
	if err := os.MkdirAll(path, 0o1777); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	options := fmt.Sprintf("mode=1777,size=%d", request.ShmBytes)
	if uid, gid, ok := rootOf(request); ok {
		options += fmt.Sprintf(",uid=%d,gid=%d", uid, gid)
	}
	if err := unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	sb.shm = path
	return nil
}

// rootOf tells the host's IDs of the root user of the sandbox's user namespace, if it has one.
func rootOf(request *wire.CreateSandbox) (uid, gid uint32, ok bool) {
	for _, m := range request.UIDs {
		if m.ContainerID == 0 {
			uid, ok = m.HostID, true
		}
	}
	for _, m := range request.GIDs {
		if m.ContainerID == 0 {
			gid = m.HostID
		}
	}
	return uid, gid, ok
}

// occupy keeps a sandbox from being removed until its starts are done.
func (s *Server) occupy(id string) (*sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, ok := s.sandboxes[id]
	if !ok {
		return nil, notFound("no sandbox %s", id)
	}
	sb.starts.Add(1)
	return sb, nil
}

// removeSandbox takes the sandbox's containers along: one whose start was under way may run without its daemon's knowing, if that was killed meanwhile.
func (s *Server) removeSandbox(request *wire.Target) error {
	if err := checkID(request.ID); err != nil {
		return err
	}
	s.mu.Lock()
	sb, ok := s.sandboxes[request.ID]
	delete(s.sandboxes, request.ID)
	s.mu.Unlock()
	if !ok {
		sb = &sandbox{id: request.ID, shm: filepath.Join(s.shmDir(), request.ID)}
	}
	sb.starts.Wait()
	if err := s.endContainers(sb.id); err != nil {
		return err
	}
	return s.dismantle(sb)
}

// endContainers kills what runs in a sandbox, and waits for the ends.
func (s *Server) endContainers(sandbox string) error {
	s.mu.Lock()
	var inside []*container
	for _, c := range s.containers {
		if c.record.Sandbox == sandbox && c.running() {
			inside = append(inside, c)
		}
	}
	s.mu.Unlock()
	for _, c := range inside {
		if err := c.proc.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill container %s: %w", c.record.ID, err)
		}
		<-c.exited
	}
	return nil
}

// dismantle releases a sandbox in whatever state it is.
func (s *Server) dismantle(sb *sandbox) error {
	sb.close()
	var errs []error
	if sb.reaper == nil {
		sb.reaper = s.recallReaper(sb.id)
	}
	if sb.reaper != nil {
		errs = append(errs, sb.reaper.kill())
	}
	if err := os.Remove(filepath.Join(s.reaperDir(), sb.id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	path := filepath.Join(s.shmDir(), sb.id)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// prepareMountDir makes the directory below which mounts are made one private mount, so that nothing
// mounted there, also by a container in its own mount namespace, ever reaches another one.
func (s *Server) prepareMountDir() error {
	var at, parent unix.Stat_t
	if err := unix.Stat(s.mountDir(), &at); err != nil {
		return fmt.Errorf("look at %s: %w", s.mountDir(), err)
	}
	if err := unix.Stat(s.cfg.RunDir, &parent); err != nil {
		return fmt.Errorf("look at %s: %w", s.cfg.RunDir, err)
	}
	if at.Dev == parent.Dev {
		if err := unix.Mount("clipper", s.mountDir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711"); err != nil {
			return fmt.Errorf("mount %s: %w", s.mountDir(), err)
		}
	}
	if err := unix.Mount("", s.mountDir(), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", s.mountDir(), err)
	}
	for _, dir := range []string{s.rootfsDir(), s.shmDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
	}
	return nil
}

// checkID refuses what could not be a directory's name.
func checkID(id string) error {
	if id == "" || len(id) > 128 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return invalid("malformed ID %q", id)
	}
	return nil
}
