package cdi

import (
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Inject gives a container devices by their full names, vendor/class=device. Of files in several folders those in a later one count.
func Inject(spec *specs.Spec, names, dirs []string) error {
	if len(names) == 0 {
		return nil
	}
	kinds, err := read(dirs)
	if err != nil {
		return err
	}
	var missing []string
	var edits []*edits
	begun := map[*file]bool{}
	for _, name := range names {
		f, d := kinds.find(name)
		if d == nil {
			missing = append(missing, name)
			continue
		}
		if !begun[f] {
			begun[f] = true
			edits = append(edits, &f.ContainerEdits)
		}
		edits = append(edits, &d.ContainerEdits)
	}
	if len(missing) > 0 {
		return fmt.Errorf("CDI device injection failed: unresolvable CDI devices %s", strings.Join(missing, ", "))
	}
	for _, e := range edits {
		if err := e.apply(spec); err != nil {
			return fmt.Errorf("CDI device injection failed: %w", err)
		}
	}
	return nil
}

// edits are what a device changes in a container.
type edits struct {
	Env            []string     `json:"env,omitempty"`
	DeviceNodes    []deviceNode `json:"deviceNodes,omitempty"`
	Mounts         []mount      `json:"mounts,omitempty"`
	Hooks          []hook       `json:"hooks,omitempty"`
	AdditionalGIDs []uint32     `json:"additionalGids,omitempty"`
}

type deviceNode struct {
	Path        string       `json:"path"`
	HostPath    string       `json:"hostPath,omitempty"`
	Type        string       `json:"type,omitempty"`
	Major       int64        `json:"major,omitempty"`
	Minor       int64        `json:"minor,omitempty"`
	FileMode    *os.FileMode `json:"fileMode,omitempty"`
	Permissions string       `json:"permissions,omitempty"`
	UID         *uint32      `json:"uid,omitempty"`
	GID         *uint32      `json:"gid,omitempty"`
}

type mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Options       []string `json:"options,omitempty"`
	Type          string   `json:"type,omitempty"`
}

type hook struct {
	HookName string   `json:"hookName"`
	Path     string   `json:"path"`
	Args     []string `json:"args,omitempty"`
	Env      []string `json:"env,omitempty"`
	Timeout  *int     `json:"timeout,omitempty"`
}

func (e *edits) apply(spec *specs.Spec) error {
	for _, line := range e.Env {
		setEnv(spec.Process, line)
	}
	for i := range e.DeviceNodes {
		if err := e.DeviceNodes[i].apply(spec.Linux); err != nil {
			return err
		}
	}
	for _, m := range e.Mounts {
		kind := m.Type
		if kind == "" {
			kind = "bind"
		}
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(have specs.Mount) bool { return have.Destination == m.ContainerPath })
		spec.Mounts = append(spec.Mounts, specs.Mount{Source: m.HostPath, Destination: m.ContainerPath, Type: kind, Options: m.Options})
	}
	for _, h := range e.Hooks {
		if err := h.apply(spec); err != nil {
			return err
		}
	}
	for _, gid := range e.AdditionalGIDs {
		if gid != 0 && !slices.Contains(spec.Process.User.AdditionalGids, gid) {
			spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, gid)
		}
	}
	return nil
}

func setEnv(p *specs.Process, line string) {
	name, _, _ := strings.Cut(line, "=")
	for i, have := range p.Env {
		if strings.HasPrefix(have, name+"=") {
			p.Env[i] = line
			return
		}
	}
	p.Env = append(p.Env, line)
}

// apply adds a device node and the right to use it. What isn't said of it is as on the host.
func (d *deviceNode) apply(linux *specs.Linux) error {
	source := d.HostPath
	if source == "" {
		source = d.Path
	}
	node := specs.LinuxDevice{Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor, FileMode: d.FileMode, UID: d.UID, GID: d.GID}
	if node.Type == "" || node.Type != "p" && node.Major == 0 && node.Minor == 0 {
		var stat unix.Stat_t
		if err := unix.Stat(source, &stat); err != nil {
			return fmt.Errorf("device node %s: %w", source, err)
		}
		kind := map[uint32]string{unix.S_IFBLK: "b", unix.S_IFCHR: "c", unix.S_IFIFO: "p"}[stat.Mode&unix.S_IFMT]
		if kind == "" || node.Type != "" && node.Type != kind {
			return fmt.Errorf("device node %s: not a device of type %q", source, node.Type)
		}
		node.Type, node.Major, node.Minor = kind, int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
		if node.FileMode == nil {
			mode := os.FileMode(stat.Mode & 0o7777)
			node.FileMode = &mode
		}
	}
	linux.Devices = slices.DeleteFunc(linux.Devices, func(have specs.LinuxDevice) bool { return have.Path == node.Path })
	linux.Devices = append(linux.Devices, node)
	if node.Type == "p" {
		return nil
	}
	access := d.Permissions
	if access == "" {
		access = "rwm"
	}
	linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
		Allow: true, Type: node.Type, Major: &node.Major, Minor: &node.Minor, Access: access,
	})
	return nil
}

func (h *hook) apply(spec *specs.Spec) error {
	if spec.Hooks == nil {
		spec.Hooks = &specs.Hooks{}
	}
	at := map[string]*[]specs.Hook{
		"prestart": &spec.Hooks.Prestart, "createRuntime": &spec.Hooks.CreateRuntime, "createContainer": &spec.Hooks.CreateContainer, //nolint:staticcheck // drivers still use prestart
		"startContainer": &spec.Hooks.StartContainer, "poststart": &spec.Hooks.Poststart, "poststop": &spec.Hooks.Poststop,
	}[h.HookName]
	if at == nil {
		return fmt.Errorf("unknown hook %q", h.HookName)
	}
	*at = append(*at, specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
	return nil
}
