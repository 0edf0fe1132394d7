package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// standardMounts are those that every container has.
func standardMounts(in *Input) []specs.Mount {
	privileged := in.Config.GetLinux().GetSecurityContext().GetPrivileged()
	access := "ro"
	if privileged {
		access = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: append([]string{"nosuid", "noexec", "nodev", "relatime", access}, sharedCgroupOptions(privileged)...)},
	}
	if in.UserNamespace && in.HostNetwork {
		// A user namespace that does not own its network may not mount sysfs anew.
		mounts[4] = bind("/sys", "/sys", "rbind", "nosuid", "noexec", "nodev", "rro")
	}
	shm := in.Shm
	if shm == "" {
		shm = "/dev/shm"
	}
	return append(mounts, bind("/dev/shm", shm, "rbind", "rprivate", "rw"))
}

// sharedCgroupOptions are those of the node's own mount of cgroup v2 that would be lost to all by a mount without them: in the node's
// namespace of cgroups, where privileged containers are, every mount sets them anew.
func sharedCgroupOptions(privileged bool) []string {
	if !privileged || !UnifiedCgroups() {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return nil // a mount without them still works
	}
	return cgroupOptions(mounts)
}

func cgroupOptions(mounts []*mountinfo.Info) []string {
	var kept []string
	for _, m := range mounts {
		for option := range strings.SplitSeq(m.VFSOptions, ",") {
			if m.Mountpoint == cgroupRoot && (option == "nsdelegate" || option == "memory_recursiveprot") {
				kept = append(kept, option)
			}
		}
	}
	return kept
}

// fileMounts are the sandbox's files, unless the configuration brings its own.
func fileMounts(in *Input) []specs.Mount {
	access := "rw"
	if in.Config.GetLinux().GetSecurityContext().GetReadonlyRootfs() {
		access = "ro"
	}
	var mounts []specs.Mount
	for _, file := range []struct{ target, source string }{
		{"/etc/hostname", in.Files.Hostname}, {"/etc/hosts", in.Files.Hosts}, {"/etc/resolv.conf", in.Files.ResolvConf},
	} {
		if !mountsTo(in.Config, file.target) {
			mounts = append(mounts, bind(file.target, file.source, "rbind", "rprivate", access))
		}
	}
	return mounts
}

func mountsTo(config *runtimeapi.ContainerConfig, target string) bool {
	return slices.ContainsFunc(config.GetMounts(), func(m *runtimeapi.Mount) bool {
		return filepath.Clean(m.GetContainerPath()) == target
	})
}

func bind(target, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

// mounts puts everything together: an outer folder comes before what is mounted inside it, and what
// the configuration mounts replaces a standard mount at the same place.
func (in *Input) mounts() ([]specs.Mount, string, error) {
	wanted := slices.Clone(in.Config.GetMounts())
	sort.SliceStable(wanted, func(i, j int) bool {
		return depth(wanted[i].GetContainerPath()) < depth(wanted[j].GetContainerPath())
	})
	var all []specs.Mount
	for _, m := range append(standardMounts(in), fileMounts(in)...) {
		if !mountsTo(in.Config, m.Destination) {
			all = append(all, m)
		}
	}
	propagation := ""
	for _, m := range wanted {
		mount, spread, err := in.volumeMount(m)
		if err != nil {
			return nil, "", fmt.Errorf("mount %s at %s: %w", m.GetHostPath(), m.GetContainerPath(), err)
		}
		all = append(all, mount)
		if spread == "rshared" || (spread == "rslave" && propagation == "") {
			propagation = spread
		}
	}
	return all, propagation, nil
}

func depth(path string) int { return len(strings.Split(filepath.Clean(path), "/")) }

// volumeMount translates one mount of the configuration.
func (in *Input) volumeMount(m *runtimeapi.Mount) (specs.Mount, string, error) {
	target := filepath.Clean("/" + m.GetContainerPath())
	if m.GetImage().GetImage() != "" {
		source, ok := in.ImageMounts[m.GetContainerPath()]
		if !ok {
			return specs.Mount{}, "", errors.New("the image was not prepared")
		}
		return bind(target, source, "rbind", "rprivate", "ro"), "", nil
	}
	source, err := hostPath(m.GetHostPath())
	if err != nil {
		return specs.Mount{}, "", err
	}
	options := []string{"rbind"}
	spread := ""
	switch m.GetPropagation() {
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		if err := checkPropagation(source, "shared:"); err != nil {
			return specs.Mount{}, "", err
		}
		options, spread = append(options, "rshared"), "rshared"
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		options, spread = append(options, "rslave"), "rslave"
	default:
		options = append(options, "rprivate")
	}
	if m.GetRecursiveReadOnly() {
		if !m.GetReadonly() || m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
			return specs.Mount{}, "", errors.New("recursive read-only needs a read-only mount without propagation")
		}
		options = append(options, "rro")
	} else if m.GetReadonly() {
		options = append(options, "ro")
	} else {
		options = append(options, "rw")
	}
	mount := bind(target, source, options...)
	if len(m.GetUidMappings()) > 0 {
		mount.Options = append(mount.Options, "ridmap")
		mount.UIDMappings = idMappings(m.GetUidMappings())
		mount.GIDMappings = idMappings(m.GetGidMappings())
	}
	return mount, spread, nil
}

func idMappings(list []*runtimeapi.IDMapping) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(list))
	for i, m := range list {
		out[i] = specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()}
	}
	return out
}

// hostPath resolves a path on the node; a folder that is missing is made, as Docker did and others still do.
func hostPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("path %q on the node is not absolute", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("resolve path on the node: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", fmt.Errorf("create path on the node: %w", err)
	}
	return filepath.EvalSymlinks(path)
}

// checkPropagation makes sure that the mount a path lies on has a propagation.
func checkPropagation(path, wanted string) error {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("read the node's mounts: %w", err)
	}
	var mountPoint, optional string
	for _, m := range mounts {
		if at := m.Mountpoint; len(at) >= len(mountPoint) && (at == "/" || path == at || strings.HasPrefix(path, at+"/")) {
			mountPoint, optional = at, m.Optional
		}
	}
	if !strings.Contains(optional, wanted) {
		return fmt.Errorf("path %q is mounted on %q but it is not a shared mount", path, mountPoint)
	}
	return nil
}
