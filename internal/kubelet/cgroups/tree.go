package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

const (
	fsRoot     = "/sys/fs/cgroup"
	podsGroup  = "kubepods"
	burstable  = "burstable"
	bestEffort = "besteffort"
	podPrefix  = "pod"
)

// controllers are those that limits are written to.
var controllers = []string{"cpu", "memory", "pids", "hugetlb"}

// Tree is the kubelet's part of the control group hierarchy. Its methods may be called concurrently for different pods.
type Tree struct {
	root string
	v2   bool
	// mounts lists the hierarchies; for version 2 there is one. of tells which hierarchy a controller is in.
	mounts []string
	of     map[string]string
	// Unbounded tells pods whose CPU isn't limited as a whole: their containers have CPUs for themselves. nil is none.
	Unbounded func(*corev1.Pod) bool
	// PodPIDs bounds the processes of each pod; 0 is no bound.
	PodPIDs int64
	// QuotaPeriod is over what time CPU limits hold; 0 is 100 ms. NoQuota leaves them unenforced.
	QuotaPeriod time.Duration
	NoQuota     bool
	// Took is told of each change of pods' groups, "create", "update" or "destroy", and how long it took; nil is nobody.
	Took func(operation string, took time.Duration)
}

// New looks at the machine's control groups. root is the group below which everything is made, as "/clipper".
func New(root string) (*Tree, error) {
	t := &Tree{root: filepath.Join("/", root), of: map[string]string{}}
	var st unix.Statfs_t
	if err := unix.Statfs(fsRoot, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", fsRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		t.v2, t.mounts = true, []string{fsRoot}
		available, err := os.ReadFile(filepath.Join(fsRoot, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("list controllers: %w", err)
		}
		for _, c := range strings.Fields(string(available)) {
			t.of[c] = fsRoot
		}
		return t, nil
	}
	if err := t.findV1(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tree) findV1() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(fsRoot))
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range mounts {
		switch m.FSType {
		case "cgroup2":
			t.mounts = append(t.mounts, m.Mountpoint) // beside the others it limits nothing, but runtimes make groups in it too
		case "cgroup":
			t.mounts = append(t.mounts, m.Mountpoint)
			for option := range strings.SplitSeq(m.VFSOptions, ",") {
				t.of[option] = m.Mountpoint
			}
		}
	}
	for _, needed := range []string{"cpu", "memory"} {
		if t.of[needed] == "" {
			return fmt.Errorf("the %s control group controller is not mounted below %s", needed, fsRoot)
		}
	}
	return nil
}

// V2 tells whether the machine has the unified hierarchy.
func (t *Tree) V2() bool { return t.v2 }

// SwapAccounting tells whether swap can be limited.
func (t *Tree) SwapAccounting() bool {
	if t.v2 {
		_, err := os.Stat(filepath.Join(fsRoot, t.root, podsGroup, "memory.swap.max"))
		return err == nil
	}
	_, err := os.Stat(filepath.Join(t.of["memory"], "memory.memsw.limit_in_bytes"))
	return err == nil
}

// Setup makes the groups above the pods. They weigh what the node gives to pods, and are bounded, if bound isn't nil, by its memory and process IDs.
func (t *Tree) Setup(allocatable, bound corev1.ResourceList) error {
	limits := Limits{CPUShares: sharesOf(allocatable.Cpu().MilliValue()), Memory: bound.Memory().Value(), PIDs: pidsOf(bound)}
	for _, g := range []struct {
		path   string
		limits Limits
	}{
		{t.pods(), limits},
		{filepath.Join(t.pods(), burstable), Limits{CPUShares: minShares}},
		{filepath.Join(t.pods(), bestEffort), Limits{CPUShares: minShares}},
	} {
		if err := t.make(g.path); err != nil {
			return err
		}
		if err := t.apply(g.path, g.limits); err != nil {
			return err
		}
	}
	return nil
}

// Bound bounds a group that is there already.
func (t *Tree) Bound(group string, by corev1.ResourceList) error {
	group = filepath.Join(t.root, group)
	if _, err := os.Stat(filepath.Join(t.of["cpu"], group)); err != nil {
		return fmt.Errorf("the control group is not there: %w", err)
	}
	return t.apply(group, Limits{CPUShares: sharesOf(by.Cpu().MilliValue()), Memory: by.Memory().Value(), PIDs: pidsOf(by)})
}

func pidsOf(list corev1.ResourceList) int64 {
	pids := list["pid"]
	return pids.Value()
}

func (t *Tree) pods() string { return filepath.Join(t.root, podsGroup) }

// PodPath returns the pod's group: the parent of its containers' groups.
func (t *Tree) PodPath(pod *corev1.Pod) string {
	switch lifecycle.QOS(pod) {
	case corev1.PodQOSBurstable:
		return filepath.Join(t.pods(), burstable, podPrefix+string(pod.UID))
	case corev1.PodQOSBestEffort:
		return filepath.Join(t.pods(), bestEffort, podPrefix+string(pod.UID))
	}
	return filepath.Join(t.pods(), podPrefix+string(pod.UID))
}

// EnsurePod makes the pod's group with its limits and returns its path.
func (t *Tree) EnsurePod(pod *corev1.Pod) (string, error) {
	defer t.done("create", time.Now())
	path := t.PodPath(pod)
	if err := t.make(path); err != nil {
		return "", err
	}
	return path, t.apply(path, t.Limits(pod))
}

// Limits are those of the pod's group on this node.
func (t *Tree) Limits(pod *corev1.Pod) Limits {
	l := PodLimits(pod, t.QuotaPeriod)
	l.PIDs = t.PodPIDs
	if t.NoQuota || t.Unbounded != nil && t.Unbounded(pod) {
		l.CPUQuota = 0
	}
	return l
}

// UpdatePod writes the pod's limits anew.
func (t *Tree) UpdatePod(pod *corev1.Pod) error {
	defer t.done("update", time.Now())
	return t.apply(t.PodPath(pod), t.Limits(pod))
}

func (t *Tree) done(operation string, began time.Time) {
	if t.Took != nil {
		t.Took(operation, time.Since(began))
	}
}

// LoosenPod takes the pod's own bounds off while its containers' bounds change; UpdatePod sets them again.
func (t *Tree) LoosenPod(pod *corev1.Pod) error {
	defer t.done("update", time.Now())
	l := PodLimits(pod, t.QuotaPeriod)
	l.CPUQuota, l.Memory = 0, 0
	return t.apply(t.PodPath(pod), l)
}

// make creates a group in every hierarchy that limits are written to.
func (t *Tree) make(path string) error {
	if t.v2 {
		return t.makeV2(path)
	}
	for _, c := range controllers {
		mount := t.of[c]
		if mount == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(mount, path), 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
	}
	return nil
}

// makeV2 creates the group and hands the controllers down to it from each of its ancestors.
func (t *Tree) makeV2(path string) error {
	dir := fsRoot
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := t.delegate(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make control group: %w", err)
		}
	}
	return t.delegate(dir)
}

func (t *Tree) delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read controllers of %s: %w", dir, err)
	}
	offered, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers of %s: %w", dir, err)
	}
	on := " " + strings.TrimSpace(string(have)) + " "
	for _, c := range strings.Fields(string(offered)) {
		if strings.Contains(on, " "+c+" ") {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) parents() []string {
	return []string{t.pods(), filepath.Join(t.pods(), burstable), filepath.Join(t.pods(), bestEffort)}
}

// RemovePod removes the pod's group with everything below it. Processes that are still in it are killed; it fails while they are dying.
func (t *Tree) RemovePod(uid types.UID) error {
	defer t.done("destroy", time.Now())
	var errs []error
	for _, mount := range t.mounts {
		for _, parent := range t.parents() {
			errs = append(errs, removeTree(filepath.Join(mount, parent, podPrefix+string(uid))))
		}
	}
	return errors.Join(errs...)
}

func removeTree(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove control group: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err = os.Remove(dir); errors.Is(err, syscall.EBUSY) {
		killAll(dir)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove control group: %w", err)
	}
	return nil
}

// killAll kills what runs in a group, through descriptors, so that a reused process ID is never hit.
func killAll(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if again, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil && strings.Contains("\n"+string(again), "\n"+field+"\n") {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // one that has just exited is as good
		}
		unix.Close(fd)
	}
}

// Leave removes the groups of the given pods, and those above them if nothing else is in there: others may have pods below the same root.
func (t *Tree) Leave(pods []types.UID) error {
	var errs []error
	for _, uid := range pods {
		errs = append(errs, t.RemovePod(uid))
	}
	for _, mount := range t.mounts {
		for _, group := range []string{filepath.Join(t.pods(), burstable), filepath.Join(t.pods(), bestEffort), t.pods(), t.root} {
			if group != "/" {
				_ = os.Remove(filepath.Join(mount, group)) // one that others use stays
			}
		}
	}
	return errors.Join(errs...)
}

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set a limit: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}
