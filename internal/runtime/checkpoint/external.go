package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// caller is the thread that asks, by its name in /proc: the first one of a program may be lost in a pod's namespaces.
const caller = "thread-self"

// external lists what belongs to the container but not to its checkpoint, in CRIU's words: namespaces of the pod, mounts from the node, the ends of its log.
func (c *Container) external() ([]string, error) {
	list, err := c.externalNamespaces()
	if err != nil {
		return nil, err
	}
	own, err := readMounts(strconv.Itoa(c.PID))
	if err != nil {
		return nil, err
	}
	node, err := readMounts(caller)
	if err != nil {
		return nil, err
	}
	list = append(list, externalMounts(own, node)...)
	files, err := c.externalFiles(own)
	return append(list, files...), err
}

// externalKeys are what runc, which may restore the container, calls the namespaces.
var externalKeys = map[string]string{"net": "extRootNetNS", "pid": "extRootPidNS"}

// externalNamespaces are those that other containers of the pod are in too, which a restored one finds made.
func (c *Container) externalNamespaces() ([]string, error) {
	var list []string
	for _, kind := range []string{"net", "pid"} {
		theirs, err := inode(fmt.Sprintf("/proc/%d/ns/%s", c.PID, kind))
		if err != nil {
			return nil, err
		}
		ours, err := inode(filepath.Join("/proc", caller, "ns", kind))
		if err != nil {
			return nil, err
		}
		if theirs != ours && (kind == "net" || c.SharedProcesses) {
			list = append(list, fmt.Sprintf("%s[%d]:%s", kind, theirs, externalKeys[kind]))
		}
	}
	return list, nil
}

func inode(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return stat.Ino, nil
}

// readMounts lists those that a process sees.
func readMounts(process string) ([]*mountinfo.Info, error) {
	f, err := os.Open(filepath.Join("/proc", process, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read the mounts of process %s: %w", process, err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the mounts of process %s: %w", process, err)
	}
	return mounts, nil
}

// dumped are the kinds of file systems whose mounts CRIU makes anew.
var dumped = map[string]bool{"proc": true, "sysfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true}

// externalMounts are all mounts of a container but its root, the kernel's own file systems, and what it has in memory for itself.
func externalMounts(own, node []*mountinfo.Info) []string {
	type device struct{ major, minor int }
	shared := map[device]bool{}
	for _, m := range node {
		shared[device{m.Major, m.Minor}] = true
	}
	var list []string
	seen := map[string]bool{}
	for _, m := range own {
		inMemory := m.FSType == "tmpfs" && m.Root == "/" && !shared[device{m.Major, m.Minor}]
		if m.Mountpoint == "/" || dumped[m.FSType] || inMemory || seen[m.Mountpoint] {
			continue
		}
		seen[m.Mountpoint] = true
		list = append(list, fmt.Sprintf("mnt[%s]:%s", m.Mountpoint, m.Mountpoint))
	}
	return list
}

// externalFiles are those that processes have open outside of the container's file systems: the pipes of the log, and what came before it had any.
func (c *Container) externalFiles(own []*mountinfo.Info) ([]string, error) {
	mine := map[int]bool{}
	for _, m := range own {
		mine[m.ID] = true
	}
	procs, err := os.ReadFile(filepath.Join(c.Cgroup, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("list the container's processes: %w", err)
	}
	seen := map[string]bool{}
	for _, pid := range strings.Fields(string(procs)) {
		dir := filepath.Join("/proc", pid, "fd")
		entries, _ := os.ReadDir(dir) // it may have ended
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil || !strings.HasPrefix(target, "/") {
				continue // closed meanwhile, or of no file system
			}
			id, ok := mountOf(filepath.Join("/proc", pid, "fdinfo", e.Name()))
			file, err := inode(filepath.Join(dir, e.Name()))
			if ok && err == nil && !mine[id] {
				seen[fmt.Sprintf("file[%x:%x]", id, file)] = true
			}
		}
	}
	var list []string
	for resource := range seen {
		list = append(list, resource)
	}
	slices.Sort(list)
	return list, nil
}

// mountOf reads the mount that an open file lies on.
func mountOf(path string) (int, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(value))
			return id, err == nil
		}
	}
	return 0, false
}

// descriptors is the name of the file that says what the first process's streams were, for who restores them.
const descriptors = "descriptors.json"

func (c *Container) writeDescriptors(dir string) error {
	streams := make([]string, 3)
	for i := range streams {
		streams[i], _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.PID, i)) // it may have closed it
	}
	return writeJSON(filepath.Join(dir, descriptors), streams)
}

func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
