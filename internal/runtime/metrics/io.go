package metrics

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// transfers are what a container has moved from and to one device, in bytes and in requests, by operation.
type transfers struct {
	bytes, requests map[string]uint64
}

// transferNames are the metrics of the operations that have such.
var transferNames = map[string]string{"Read": "container_fs_reads", "Write": "container_fs_writes"}

// addIO tells what a container has moved, device by device.
func (s *Set) addIO(c Cgroup) {
	devices := c.legacyIO()
	if c.Unified {
		devices = c.unifiedIO()
	}
	if _, used := devices[c.Disk]; !used && c.Disk != "" {
		none := map[string]uint64{"Read": 0, "Write": 0}
		devices[c.Disk] = transfers{none, none}
	}
	for _, numbers := range slices.Sorted(maps.Keys(devices)) {
		device, moved := deviceName(numbers), devices[numbers]
		major, minor, _ := strings.Cut(numbers, ":")
		for _, operation := range slices.Sorted(maps.Keys(moved.bytes)) {
			s.add("container_blkio_device_usage_total", moved.bytes[operation], device, major, minor, operation)
			if name := transferNames[operation]; name != "" {
				s.add(name+"_bytes_total", moved.bytes[operation], device)
			}
		}
		for _, operation := range slices.Sorted(maps.Keys(moved.requests)) {
			if name := transferNames[operation]; name != "" {
				s.add(name+"_total", moved.requests[operation], device)
			}
		}
	}
}

// unifiedIO reads lines as "8:1 rbytes=1 wbytes=2 rios=3 wios=4".
func (c Cgroup) unifiedIO() map[string]transfers {
	devices := map[string]transfers{}
	for line := range strings.Lines(c.text("io", "io.stat")) {
		numbers, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		amounts := map[string]uint64{}
		for _, field := range strings.Fields(rest) {
			key, value, _ := strings.Cut(field, "=")
			amounts[key], _ = strconv.ParseUint(value, 10, 64)
		}
		devices[numbers] = transfers{
			bytes:    map[string]uint64{"Read": amounts["rbytes"], "Write": amounts["wbytes"]},
			requests: map[string]uint64{"Read": amounts["rios"], "Write": amounts["wios"]},
		}
	}
	return devices
}

// legacyIO reads lines as "8:1 Read 1".
func (c Cgroup) legacyIO() map[string]transfers {
	devices := map[string]transfers{}
	read := func(file string, of func(transfers) map[string]uint64) {
		for line := range strings.Lines(c.text("blkio", file)) {
			var numbers, operation string
			var value uint64
			if n, _ := fmt.Sscan(line, &numbers, &operation, &value); n != 3 {
				continue // the sum of all devices
			}
			if _, ok := devices[numbers]; !ok {
				devices[numbers] = transfers{map[string]uint64{}, map[string]uint64{}}
			}
			of(devices[numbers])[operation] = value
		}
	}
	read("blkio.throttle.io_service_bytes_recursive", func(t transfers) map[string]uint64 { return t.bytes })
	read("blkio.throttle.io_serviced_recursive", func(t transfers) map[string]uint64 { return t.requests })
	return devices
}

// deviceName is a block device's path, or its numbers where the kernel has no name for it.
func deviceName(numbers string) string {
	link, err := os.Readlink(filepath.Join("/sys/dev/block", numbers))
	if err != nil {
		return numbers
	}
	return "/dev/" + filepath.Base(link)
}
