package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"

	"clipper.dev/clipper/internal/keeper/guard"
	"clipper.dev/clipper/internal/keeper/wire"
)

// reaper is the first process of a process namespace that a pod's containers share.
type reaper struct {
	proc   *process
	cgroup string // relative to the root of every hierarchy; empty if it has none
}

func startReaper(request *wire.CreateSandbox, flags uintptr) (*reaper, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"pause"}
	cmd.Env = []string{guard.ReaperEnv}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if len(request.UIDs) > 0 {
		cmd.SysProcAttr.UidMappings = idMaps(request.UIDs)
		cmd.SysProcAttr.GidMappings = idMaps(request.GIDs)
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	proc, err := watchProcess(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	_ = cmd.Process.Release() // the process is followed by its own descriptor
	r := &reaper{proc: proc, cgroup: request.Cgroup}
	if r.cgroup == "" {
		return r, nil
	}
	m, err := manager.New(&cgroups.Cgroup{Path: r.cgroup, Resources: &cgroups.Resources{SkipDevices: true}})
	if err == nil {
		err = m.Apply(proc.pid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("place the reaper in cgroup %s: %w", r.cgroup, err), r.kill())
	}
	return r, nil
}

// reaperNote is what is kept of a reaper on disk, so that a keeper that did not start it can end it.
type reaperNote struct {
	PID       int
	StartTime uint64
	Cgroup    string
}

func (r *reaper) remember(dir, id string) error {
	data, err := json.Marshal(reaperNote{r.proc.pid, r.proc.startTime, r.cgroup})
	if err != nil {
		return fmt.Errorf("encode reaper: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, id), data, 0o600); err != nil {
		return fmt.Errorf("note the reaper: %w", err)
	}
	return nil
}

// recallReaper finds a sandbox's reaper that an earlier keeper started; nil if there is none any more.
func (s *Server) recallReaper(id string) *reaper {
	data, err := os.ReadFile(filepath.Join(s.reaperDir(), id))
	if err != nil {
		return nil
	}
	var note reaperNote
	if json.Unmarshal(data, &note) != nil {
		return nil
	}
	proc, err := readopt(note.PID, note.StartTime)
	if err != nil {
		return nil
	}
	return &reaper{proc: proc, cgroup: note.Cgroup}
}

// kill ends the reaper and with it every process of its namespace.
func (r *reaper) kill() error {
	err := r.proc.signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("kill the reaper: %w", err)
	}
	r.proc.wait()
	r.proc.close()
	if r.cgroup == "" {
		return nil
	}
	m, err := manager.New(&cgroups.Cgroup{Path: r.cgroup, Resources: &cgroups.Resources{SkipDevices: true}})
	if err != nil {
		return fmt.Errorf("open cgroup %s: %w", r.cgroup, err)
	}
	return m.Destroy()
}

func idMaps(mappings []wire.IDMapping) []syscall.SysProcIDMap {
	maps := make([]syscall.SysProcIDMap, len(mappings))
	for i, m := range mappings {
		maps[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return maps
}

// moveSelf places the keeper in a cgroup of its own in every hierarchy, so that whoever stops the
// daemon's cgroup does not stop the containers' parent.
func moveSelf(cgroup string) error {
	m, err := manager.New(&cgroups.Cgroup{Path: filepath.Join("/", cgroup), Resources: &cgroups.Resources{SkipDevices: true}})
	if err != nil {
		return fmt.Errorf("open cgroup %s: %w", cgroup, err)
	}
	if err := m.Apply(os.Getpid()); err != nil {
		return fmt.Errorf("move into cgroup %s: %w", cgroup, err)
	}
	return nil
}
