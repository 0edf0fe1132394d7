package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// script is what the entry (guard/entry.c) carries out to make a container: numbers of eight bytes, and
// texts with their length before and a zero behind. An instruction is a letter and its arguments.
type script struct{ data []byte }

func (s *script) number(values ...uint64) {
	for _, v := range values {
		s.data = binary.NativeEndian.AppendUint64(s.data, v)
	}
}

func (s *script) text(values ...string) {
	for _, v := range values {
		s.number(uint64(len(v)))
		s.data = append(append(s.data, v...), 0)
	}
}

func (s *script) texts(values []string) {
	s.number(uint64(len(values)))
	s.text(values...)
}

func (s *script) do(op byte) { s.number(uint64(op)) }

// unifiedHierarchy is the name under which the second version of cgroups goes where controllers are listed.
const unifiedHierarchy = ""

// errUncommon says that a container wants what the entry doesn't do.
var errUncommon = errors.New("not a matter of the entry")

// entryInput is everything that a script follows from.
type entryInput struct {
	config  *configs.Config
	process *libcontainer.Process
	request *wire.Start
	groups  map[string]string // the container's cgroups, by controller
}

// writeScript translates a container's configuration. The order, and what each step does, is libcontainer's; a configuration
// with anything else than what stands here is refused.
func writeScript(in *entryInput) ([]byte, error) {
	if err := checkCommon(in.config); err != nil {
		return nil, err
	}
	s := &script{}
	s.text(in.config.Rootfs)
	if score := in.config.OomScoreAdj; score != nil {
		s.do('W')
		s.text("/proc/self/oom_score_adj", fmt.Sprint(*score))
	}
	s.groups(in.groups)
	if err := s.namespaces(in.config.Namespaces); err != nil {
		return nil, err
	}
	s.rootfs(in)
	if err := s.mounts(in, cgroups.IsCgroup2UnifiedMode()); err != nil {
		return nil, err
	}
	s.dev(in.config)
	s.enter(in)
	s.do('J')
	return s.data, s.process(in)
}

// checkCommon refuses configurations that need more than a script says.
func checkCommon(c *configs.Config) error {
	uncommon := c.NoPivotRoot || c.ParentDeathSignal != 0 || len(c.NetDevices) > 0 || c.MountLabel != "" || c.Hostname != "" ||
		c.Domainname != "" || len(c.Networks) > 0 || len(c.Routes) > 0 || c.AppArmorProfile != "" || c.ProcessLabel != "" ||
		len(c.UIDMappings) > 0 || len(c.GIDMappings) > 0 || len(c.Sysctl) > 0 || c.Seccomp != nil || !c.NoNewKeyring ||
		c.IntelRdt != nil || c.MemoryPolicy != nil || c.RootlessEUID || c.RootlessCgroups || len(c.TimeOffsets) > 0 ||
		c.Scheduler != nil || c.Personality != nil || c.IOPriority != nil || c.ExecCPUAffinity != nil || c.Umask != nil
	for _, hooks := range c.Hooks {
		uncommon = uncommon || len(hooks) > 0
	}
	if uncommon {
		return errUncommon
	}
	return nil
}

// groups names the groups of the hierarchies of the first version, which are joined by their "tasks": moving one thread spares
// the kernel a lock that waits. Into that of the second version the entry is born.
func (s *script) groups(groups map[string]string) {
	var paths []string
	for controller, path := range groups {
		if controller != unifiedHierarchy {
			paths = append(paths, filepath.Join(path, "tasks"))
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		s.do('G')
		s.text(path)
	}
}

// namespaces enters the sandbox's namespaces and makes the container's own; that of processes is made with the process.
func (s *script) namespaces(list configs.Namespaces) error {
	flags := 0
	for _, ns := range list {
		flag := ns.Syscall()
		switch {
		case ns.Path != "" && (ns.Type == configs.NEWNET || ns.Type == configs.NEWIPC || ns.Type == configs.NEWUTS):
			s.do('N')
			s.text(ns.Path)
			s.number(uint64(flag))
		case ns.Path == "" && (ns.Type == configs.NEWNS || ns.Type == configs.NEWCGROUP):
			flags |= flag
		case ns.Path == "" && ns.Type == configs.NEWPID:
		default:
			return errUncommon
		}
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return errUncommon
	}
	s.do('U')
	s.number(uint64(flags))
	return nil
}

func (s *script) rootfs(in *entryInput) {
	o := &in.request.Rootfs
	plain := "lowerdir=" + strings.Join(o.Lower, ":") + ",upperdir=" + o.Upper + ",workdir=" + o.Work
	s.do('O')
	s.text(o.Base, plain+",volatile", plain)
	spread, parent := unix.MS_SLAVE|unix.MS_REC, unix.MS_PRIVATE
	if p := in.config.RootPropagation; p != 0 {
		spread = p
		if p&unix.MS_SLAVE != 0 {
			parent = unix.MS_SLAVE
		}
	}
	s.do('R')
	s.number(uint64(spread), uint64(parent))
}

// Where something is mounted: a folder; one with no link on the way; what the source is.
const (
	placeFolder      = 'd'
	placePlainFolder = 'p'
	placeLikeSource  = 's'
)

func (s *script) attach(place byte, m *configs.Mount, remount int) {
	s.do('A')
	s.number(uint64(place))
	s.text(m.Source, m.Destination, m.Device)
	s.number(uint64(m.Flags))
	s.text(m.Data)
	s.number(uint64(remount), uint64(len(m.PropagationFlags)))
	for _, spread := range m.PropagationFlags {
		s.number(uint64(spread))
	}
}

func (s *script) mounts(in *entryInput, unified bool) error {
	for _, m := range in.config.Mounts {
		at := filepath.Clean(m.Destination)
		if m.RecAttr != nil || m.Extensions != 0 || m.IDMapping != nil || at == "/" || !filepath.IsAbs(at) {
			return errUncommon
		}
		var err error
		switch m.Device {
		case "proc", "sysfs":
			s.attach(placePlainFolder, m, 0)
		case "devpts", "mqueue":
			s.attach(placeFolder, m, 0)
		case "tmpfs":
			if at != "/dev" || m.Flags&unix.MS_RDONLY != 0 {
				return errUncommon
			}
			s.attach(placeFolder, m, 0)
		case "bind":
			err = s.bind(m, at)
		case "cgroup":
			err = s.cgroup(in, m, unified)
		default:
			err = errUncommon
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bind leaves what is there as it is unless flags were asked for, also cleared ones: then the mount has those and no others.
func (s *script) bind(m *configs.Mount, at string) error {
	if at == "/dev" || m.Flags&unix.MS_BIND == 0 {
		return errUncommon
	}
	remount := 0
	if m.Flags&^(unix.MS_BIND|unix.MS_REC|unix.MS_REMOUNT) != 0 || m.ClearedFlags != 0 {
		remount = m.Flags | unix.MS_BIND | unix.MS_REMOUNT
	}
	s.attach(placeLikeSource, m, remount)
	return nil
}

// cgroupMounts are the hierarchies of the first version, which don't change while the machine runs.
var cgroupMounts = sync.OnceValues(func() ([]cgroups.Mount, error) { return cgroups.GetCgroupMounts(false) })

// cgroup shows a container its own control groups.
func (s *script) cgroup(in *entryInput, m *configs.Mount, unified bool) error {
	if unified {
		second := *m
		second.Device = "cgroup2" // OCI names both versions "cgroup"
		s.attach(placeFolder, &second, 0)
		return nil
	}
	if in.config.Namespaces.Contains(configs.NEWCGROUP) {
		return errUncommon
	}
	hierarchies, err := cgroupMounts()
	if err != nil {
		return fmt.Errorf("find the control groups: %w", err)
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("find the control groups: %w", err)
	}
	flags := unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	s.attach(placeFolder, &configs.Mount{
		Source: "tmpfs", Device: "tmpfs", Destination: m.Destination, Flags: flags, Data: "mode=755", PropagationFlags: m.PropagationFlags,
	}, 0)
	var links [][2]string
	for i := range hierarchies {
		h := &hierarchies[i]
		source, err := groupIn(h, in.groups, own)
		if err != nil {
			return err
		}
		name := filepath.Base(h.Mountpoint)
		bind := &configs.Mount{
			Device: "bind", Source: source, Destination: filepath.Join(m.Destination, name),
			Flags: unix.MS_BIND | unix.MS_REC | m.Flags, PropagationFlags: m.PropagationFlags,
		}
		if err := s.bind(bind, bind.Destination); err != nil {
			return err
		}
		if strings.Contains(name, ",") {
			for one := range strings.SplitSeq(name, ",") {
				links = append(links, [2]string{name, filepath.Join(m.Destination, one)})
			}
		}
	}
	for _, link := range links {
		s.link(link[0], link[1], false)
	}
	return nil
}

// groupIn finds a container's group in a hierarchy; where it has none it is in the keeper's.
func groupIn(h *cgroups.Mount, groups, own map[string]string) (string, error) {
	for _, controller := range h.Subsystems {
		for _, name := range []string{controller, cgroups.CgroupNamePrefix + controller} {
			if path := groups[name]; path != "" {
				return path, nil
			}
		}
	}
	dir, err := h.GetOwnCgroup(own)
	if err != nil {
		return "", fmt.Errorf("find the control group in %s: %w", h.Mountpoint, err)
	}
	below, err := filepath.Rel(h.Root, dir)
	if err != nil {
		return "", fmt.Errorf("find the control group in %s: %w", h.Mountpoint, err)
	}
	return filepath.Join(h.Mountpoint, below), nil
}

func (s *script) link(target, path string, replace bool) {
	s.do('L')
	s.text(target, path)
	if replace {
		s.number(1)
		return
	}
	s.number(0)
}

// hasCore tells whether the kernel shows its memory as a file.
var hasCore = sync.OnceValue(func() bool {
	_, err := os.Stat("/proc/kcore")
	return err == nil
})

// dev fills the folder of devices.
func (s *script) dev(c *configs.Config) {
	for _, d := range c.Devices {
		if d.Path == "" || filepath.Clean(d.Path) == "/dev/ptmx" {
			continue // a mere permission; a link
		}
		mode := uint64(d.FileMode) & 0o7777 // the kernel's bits, whatever the type says
		switch d.Type {
		case devices.BlockDevice:
			mode |= unix.S_IFBLK
		case devices.CharDevice:
			mode |= unix.S_IFCHR
		case devices.FifoDevice:
			mode |= unix.S_IFIFO
		}
		s.do('D')
		s.text(filepath.Clean(d.Path))
		s.number(mode, uint64(d.Major), uint64(d.Minor), uint64(d.Uid), uint64(d.Gid))
	}
	s.link("pts/ptmx", "/dev/ptmx", true)
	s.link("/proc/self/fd", "/dev/fd", false)
	s.link("/proc/self/fd/0", "/dev/stdin", false)
	s.link("/proc/self/fd/1", "/dev/stdout", false)
	s.link("/proc/self/fd/2", "/dev/stderr", false)
	if hasCore() {
		s.link("/proc/kcore", "/dev/core", false)
	}
}

// umask is what a container's first process begins with.
const umask = 0o022

// enter leaves the node's file system and hides what the container shall not see.
func (s *script) enter(in *entryInput) {
	s.do('P')
	if p := in.config.RootPropagation; p != 0 && p&(unix.MS_PRIVATE|unix.MS_SLAVE) == 0 {
		s.do('q')
		s.number(uint64(p))
	}
	s.do('0')
	if in.process.Cwd != "" {
		s.do('F')
		s.text(filepath.Clean(in.process.Cwd))
	}
	if in.config.Readonlyfs {
		s.do('S')
	}
	s.do('u')
	s.number(umask)
	for _, path := range in.config.ReadonlyPaths {
		s.do('r')
		s.text(path)
	}
	masked := map[string]bool{}
	for _, path := range in.config.MaskPaths {
		if at := filepath.Clean(path); !masked[at] {
			masked[at] = true
			s.do('m')
			s.text(at)
		}
	}
}

// process says as whom the program runs, and which it is.
func (s *script) process(in *entryInput) error {
	p := in.process
	if p.Capabilities == nil || p.Label != "" || p.AppArmorProfile != "" || p.Cwd == "" || len(p.Args) == 0 || !plainEnv(p.Env) {
		return errUncommon
	}
	for _, limit := range p.Rlimits {
		s.do('l')
		s.number(uint64(limit.Type), limit.Soft, limit.Hard)
	}
	if len(in.request.Seccomp) > 0 {
		s.do('g')
		s.number(uint64(in.request.SeccompFlags), uint64(len(in.request.Seccomp)))
		s.data = append(s.data, in.request.Seccomp...)
	}
	if p.NoNewPrivileges != nil && *p.NoNewPrivileges {
		s.do('p')
	}
	c := p.Capabilities
	s.do('C')
	for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		s.number(capabilityBits(set))
	}
	s.number(uint64(p.UID), uint64(p.GID), uint64(len(p.AdditionalGroups)))
	for _, gid := range p.AdditionalGroups {
		s.number(uint64(gid))
	}
	s.text(p.Cwd)
	s.do('X')
	s.texts(p.Args)
	s.texts(p.Env)
	return nil
}

// plainEnv tells whether an environment can be taken as it is: each name once, and a home.
func plainEnv(env []string) bool {
	seen := map[string]bool{}
	for _, line := range env {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || seen[name] || name == "HOME" && value == "" {
			return false
		}
		seen[name] = true
	}
	return seen["HOME"] && seen["PATH"]
}

// capabilities are those that the kernel knows, by OCI's names.
var capabilities = sync.OnceValue(func() map[string]uint64 {
	known := map[string]uint64{}
	list, err := capability.ListSupported()
	if err != nil {
		return known
	}
	for _, c := range list {
		known["CAP_"+strings.ToUpper(c.String())] = 1 << uint(c)
	}
	return known
})

// capabilityBits is a set as the kernel wants it, without those that this kernel doesn't know.
func capabilityBits(names []string) (bits uint64) {
	for _, name := range names {
		bits |= capabilities()[name]
	}
	return bits
}
