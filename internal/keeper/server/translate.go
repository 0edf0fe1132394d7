package server

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rlimits maps OCI's names of resource limits to the kernel's numbers.
var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// newProcess translates a process from OCI's terms to libcontainer's.
func newProcess(p *specs.Process) (*libcontainer.Process, error) {
	process := &libcontainer.Process{
		Args:            p.Args,
		Env:             p.Env,
		UID:             int(p.User.UID),
		GID:             int(p.User.GID),
		Cwd:             p.Cwd,
		Label:           p.SelinuxLabel,
		NoNewPrivileges: &p.NoNewPrivileges,
		AppArmorProfile: p.ApparmorProfile,
	}
	if p.ConsoleSize != nil {
		process.ConsoleWidth = uint16(p.ConsoleSize.Width)
		process.ConsoleHeight = uint16(p.ConsoleSize.Height)
	}
	if caps := p.Capabilities; caps != nil {
		process.Capabilities = &configs.Capabilities{
			Bounding: caps.Bounding, Effective: caps.Effective, Permitted: caps.Permitted,
			Inheritable: caps.Inheritable, Ambient: caps.Ambient,
		}
	}
	for _, gid := range p.User.AdditionalGids {
		process.AdditionalGroups = append(process.AdditionalGroups, int(gid))
	}
	for _, limit := range p.Rlimits {
		number, ok := rlimits[limit.Type]
		if !ok {
			return nil, invalid("unknown resource limit %q", limit.Type)
		}
		process.Rlimits = append(process.Rlimits, configs.Rlimit{Type: number, Hard: limit.Hard, Soft: limit.Soft})
	}
	return process, nil
}

// clampOOMScore raises a wanted score to the lowest that this process may set: without the privilege
// nobody can go below the value that was inherited, and a container with a higher one still runs.
func clampOOMScore(config *configs.Config, log *slog.Logger) {
	if config.OomScoreAdj == nil {
		return
	}
	own, err := ownOOMScore()
	if err != nil || *config.OomScoreAdj >= own || mayLowerOOMScore() {
		return
	}
	log.Warn("raising a container's OOM score: this process may not lower it", "wanted", *config.OomScoreAdj, "set", own)
	config.OomScoreAdj = &own
}

func ownOOMScore() (int, error) {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read the OOM score: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// mayLowerOOMScore tells whether this process has CAP_SYS_RESOURCE.
func mayLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
