package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "github.com/opencontainers/cgroups/devices" // lets cgroups restrict devices
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runc/libcontainer/utils"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"clipper.dev/clipper/internal/keeper/wire"
)

// start makes a container and starts its process.
func (s *Server) start(request *wire.Start) (wire.Started, error) {
	if err := checkID(request.ID); err != nil {
		return wire.Started{}, err
	}
	if request.Spec == nil || request.Spec.Process == nil || request.Spec.Linux == nil || request.Spec.Root == nil {
		return wire.Started{}, invalid("incomplete specification of container %s", request.ID)
	}
	if _, err := s.container(request.ID); err == nil {
		return wire.Started{}, &wire.Error{Code: wire.CodeExists, Message: fmt.Sprintf("container %s was started before", request.ID)}
	}
	sb, err := s.occupy(request.Sandbox)
	if err != nil {
		return wire.Started{}, err
	}
	defer sb.starts.Done()
	s.starting <- struct{}{}
	defer func() { <-s.starting }()
	c, err := s.bear(request)
	if err != nil {
		s.buryOrphans()
		return wire.Started{}, errors.Join(err, s.removeLeftovers(request.ID))
	}
	s.watchers.Go(func() { s.follow(c) })
	return wire.Started{PID: c.record.PID, StartedAt: c.record.StartedAt}, nil
}

// bear launches a container and makes it known before orphans are looked for again.
func (s *Server) bear(request *wire.Start) (*container, error) {
	s.births.RLock()
	defer s.births.RUnlock()
	c, err := s.launch(request)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.containers[request.ID] = c
	s.mu.Unlock()
	return c, nil
}

func (s *Server) launch(request *wire.Start) (*container, error) {
	if err := s.complete(request); err != nil {
		return nil, err
	}
	if err := os.Mkdir(request.Spec.Root.Path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("create mount point: %w", err)
	}
	for _, volume := range request.Volumes {
		if err := checkID(volume.Name); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Join(s.volumeDir(request.ID), volume.Name), 0o711); err != nil {
			return nil, fmt.Errorf("create mount point: %w", err)
		}
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: request.ID, Spec: request.Spec, NoNewKeyring: true,
	})
	if err != nil {
		return nil, fmt.Errorf("translate the specification: %w", err)
	}
	clampOOMScore(config, s.log)
	log, err := newContainerLog(request.LogPath)
	if err != nil {
		return nil, err
	}
	streams := newStreams(log)
	streams.stdinOnce = request.StdinOnce
	c := &container{streams: streams, exited: make(chan struct{}), record: record{
		ID: request.ID, Sandbox: request.Sandbox, LogPath: request.LogPath, Terminal: request.Terminal,
	}}
	for _, kind := range request.Join {
		c.record.Joined = append(c.record.Joined, string(kind))
	}
	if err := s.run(c, config, request); err != nil {
		streams.discard()
		return nil, err
	}
	streams.pump()
	return c, nil
}

// run starts the container's process.
func (s *Server) run(c *container, config *configs.Config, request *wire.Start) error {
	process, err := newProcess(request.Spec.Process)
	if err != nil {
		return err
	}
	process.Init = true
	child := &childFiles{}
	if !request.Terminal {
		if child, err = c.streams.openPipes(filepath.Join(s.pipeDir(), request.ID), request.Stdin); err != nil {
			return err
		}
		defer child.close()
		if s.runEntry(c, config, process, request, child) {
			return nil
		}
	}
	box, err := libcontainer.Create(s.libcontainerDir(), request.ID, config)
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	c.runtime = loaded(box)
	if err := s.runLibcontainer(c, box, process, request, child); err != nil {
		return errors.Join(err, box.Destroy())
	}
	return nil
}

// runEntry starts the process by the entry and tells whether that went well.
func (s *Server) runEntry(c *container, config *configs.Config, process *libcontainer.Process, request *wire.Start, child *childFiles) bool {
	if len(request.Volumes) > 0 {
		return false
	}
	e, err := s.enterScript(config, process, request, child)
	if errors.Is(err, errUncommon) {
		return false
	}
	if err == nil {
		defer e.close()
		if err = s.note(c, e.pid); err == nil {
			err = (&stage{ours: e.control, guarded: len(request.Seccomp) > 0}).arm()
		}
		if err == nil {
			err = e.pass()
		}
		if err == nil {
			c.runtime = s.toLoad(request.ID)
			return true
		}
		e.abandon()
	}
	s.log.Info("leaving a container to libcontainer", "container", request.ID, "reason", err)
	if err := s.undoEntry(config, request); err != nil {
		s.log.Warn("an entry left something behind", "container", request.ID, "error", err)
	}
	return false
}

// runLibcontainer starts the process by libcontainer and opens its gate.
func (s *Server) runLibcontainer(c *container, box *libcontainer.Container, process *libcontainer.Process, request *wire.Start, child *childFiles) error {
	config := &stageConfig{
		Rootfs: request.Spec.Root.Path, Overlay: &request.Rootfs,
		VolumeDir: s.volumeDir(request.ID), Volumes: request.Volumes,
		Seccomp: request.Seccomp, SeccompFlags: request.SeccompFlags, Gate: true,
	}
	if userns := s.userNamespace(request); userns != nil {
		config.Overlay, config.Volumes = nil, nil
		if err := s.mountMapped(request, userns); err != nil {
			return err
		}
	}
	stage, err := newStage(config)
	if err != nil {
		return err
	}
	defer stage.close()
	process.ExtraFiles = []*os.File{stage.theirs}
	if err := connect(c, box, process, request, child); err != nil {
		return err
	}
	if err := s.open(c, box, process, stage); err != nil {
		_ = box.Signal(os.Kill)
		_, _ = process.Wait()
		return err
	}
	return nil
}

// userNamespace is the one of the sandbox, if the container enters it.
func (s *Server) userNamespace(request *wire.Start) *os.File {
	if !slices.Contains(request.Join, specs.UserNamespace) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb, ok := s.sandboxes[request.Sandbox]; ok {
		return sb.namespaces[string(specs.UserNamespace)]
	}
	return nil
}

// connect gives the process its streams and starts it up to the gate.
func connect(c *container, box *libcontainer.Container, process *libcontainer.Process, request *wire.Start, child *childFiles) error {
	if request.Terminal {
		master, err := startWithTerminal(box, process)
		if err != nil {
			return err
		}
		return c.streams.useTerminal(master, request.Stdin)
	}
	// A nil *os.File must not become an interface that is not nil.
	if child.stdin != nil {
		process.Stdin = child.stdin
	}
	process.Stdout, process.Stderr = child.stdout, child.stderr
	return box.Start(process)
}

// startWithTerminal starts a process with a new terminal and returns its master.
func startWithTerminal(box *libcontainer.Container, process *libcontainer.Process) (*os.File, error) {
	ours, theirs, err := utils.NewSockPair("console")
	if err != nil {
		return nil, fmt.Errorf("create console socket: %w", err)
	}
	defer ours.Close()
	process.ConsoleSocket = theirs
	err = box.Start(process)
	theirs.Close()
	if err != nil {
		return nil, err
	}
	master, err := utils.RecvFile(ours)
	if err != nil {
		return nil, fmt.Errorf("receive the terminal: %w", err)
	}
	return master, nil
}

// open records the process, installs its filter and lets it execute the container's program.
func (s *Server) open(c *container, box *libcontainer.Container, process *libcontainer.Process, stage *stage) error {
	pid, err := process.Pid()
	if err != nil {
		return fmt.Errorf("find the container's process: %w", err)
	}
	if err := s.note(c, pid); err != nil {
		return err
	}
	if err := stage.arm(); err != nil {
		return err
	}
	if err := box.Exec(); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return nil
}

// note records the process that is about to become the container's program.
func (s *Server) note(c *container, pid int) (err error) {
	if c.proc, err = watchProcess(pid); err != nil {
		return err
	}
	if c.record.Boot, err = bootID(); err != nil {
		return err
	}
	c.record.PID, c.record.StartTime = c.proc.pid, c.proc.startTime
	c.record.StartedAt = time.Now()
	return s.writeRecord(&c.record, false)
}

// complete fills in what only the keeper knows: the mount point and the namespaces to join.
func (s *Server) complete(request *wire.Start) error {
	request.Spec.Root.Path = filepath.Join(s.rootfsDir(), request.ID)
	linux := request.Spec.Linux
	s.mu.Lock()
	sb, ok := s.sandboxes[request.Sandbox]
	s.mu.Unlock()
	if !ok {
		return notFound("no sandbox %s", request.Sandbox)
	}
	for _, kind := range request.Join {
		file, ok := sb.namespaces[string(kind)]
		if !ok {
			return invalid("sandbox %s has no %s namespace of its own", request.Sandbox, kind)
		}
		linux.Namespaces = setNamespace(linux.Namespaces, kind, namespacePath(file))
	}
	if request.JoinPIDOf == "" {
		return nil
	}
	target, err := s.container(request.JoinPIDOf)
	if err != nil {
		return err
	}
	if !target.running() {
		return notRunning(request.JoinPIDOf)
	}
	linux.Namespaces = setNamespace(linux.Namespaces, specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", target.proc.pid))
	return nil
}

func setNamespace(namespaces []specs.LinuxNamespace, kind specs.LinuxNamespaceType, path string) []specs.LinuxNamespace {
	namespaces = slices.DeleteFunc(namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
	return append(namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}
