package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Machine is what doesn't change while the kubelet runs.
type Machine struct {
	Capacity corev1.ResourceList
	// Info lacks the runtime's version and the kubelet's.
	Info corev1.NodeSystemInfo
	// PageSizes are the huge page sizes as control files name them: "2MB".
	PageSizes []string
	// ThermalPaths are files that containers must not see.
	ThermalPaths []string
}

// Inspect looks at the machine. root is a directory on the file system that pods' local storage comes from.
func Inspect(root string) (*Machine, error) {
	m := &Machine{Capacity: corev1.ResourceList{}}
	memory, err := meminfo("MemTotal")
	if err != nil {
		return nil, err
	}
	cpus := cpuCount()
	m.Capacity[corev1.ResourceCPU] = *resource.NewQuantity(int64(cpus), resource.DecimalSI)
	m.Capacity[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fmt.Errorf("look at the file system of %s: %w", root, err)
	}
	m.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(st.Blocks)*st.Bsize, resource.BinarySI)
	m.addHugePages()
	m.Info = corev1.NodeSystemInfo{
		MachineID:       firstFile("/etc/machine-id", "/var/lib/dbus/machine-id"),
		SystemUUID:      strings.ToLower(firstFile("/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id")),
		BootID:          firstFile("/proc/sys/kernel/random/boot_id"),
		KernelVersion:   kernelVersion(),
		OSImage:         osImage(),
		OperatingSystem: runtime.GOOS,
		Architecture:    runtime.GOARCH,
	}
	if swap, err := meminfo("SwapTotal"); err == nil && swap > 0 {
		m.Info.Swap = &corev1.NodeSwapStatus{Capacity: &swap}
	}
	m.ThermalPaths, err = filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return m, err
}

// cpuCount counts the processors that are online, whichever of them this process may use.
func cpuCount() int {
	data, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	n := 0
	for _, part := range strings.Split(strings.TrimSpace(string(data)), ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, errA := strconv.Atoi(first)
		b := a
		var errB error
		if isRange {
			b, errB = strconv.Atoi(last)
		}
		if errA != nil || errB != nil {
			return runtime.NumCPU()
		}
		n += b - a + 1
	}
	return n
}

// meminfo reads one line of /proc/meminfo, in bytes.
func meminfo(name string) (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key != name {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		return kb << 10, nil
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

func (m *Machine) addHugePages() {
	dirs, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return
	}
	for _, dir := range dirs {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		count, err := strconv.ParseInt(firstFile(filepath.Join(dir, "nr_hugepages")), 10, 64)
		if err != nil {
			continue
		}
		size := resource.NewQuantity(kb<<10, resource.BinarySI)
		m.Capacity[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size.String())] = *resource.NewQuantity(count*kb<<10, resource.BinarySI)
		name := fmt.Sprintf("%dKB", kb)
		switch {
		case kb%(1<<20) == 0:
			name = fmt.Sprintf("%dGB", kb>>20)
		case kb%(1<<10) == 0:
			name = fmt.Sprintf("%dMB", kb>>10)
		}
		m.PageSizes = append(m.PageSizes, name)
	}
}

// firstFile returns the trimmed contents of the first file that has any.
func firstFile(paths ...string) string {
	for _, p := range paths {
		if data, err := os.ReadFile(p); err == nil {
			if s := strings.Trim(string(data), " \n\x00"); s != "" {
				return s
			}
		}
	}
	return ""
}

func kernelVersion() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func osImage() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Unknown"
	}
	for _, line := range strings.Split(string(data), "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Unknown"
}
