package server

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// diskFamilies tell what the machine's disks have done, as cAdvisor does under the root control group. Each is a number of /proc/diskstats by its place
// after the name, divided by what makes it its unit.
var diskFamilies = []struct {
	family
	field   int
	divisor float64
}{
	{diskCounter("container_fs_reads_merged_total", "Cumulative count of reads merged"), 1, 1},
	{diskCounter("container_fs_sector_reads_total", "Cumulative count of sector reads completed"), 2, 1},
	{diskCounter("container_fs_read_seconds_total", "Cumulative count of seconds spent reading"), 3, 1000},
	{diskCounter("container_fs_writes_merged_total", "Cumulative count of writes merged"), 5, 1},
	{diskCounter("container_fs_sector_writes_total", "Cumulative count of sector writes completed"), 6, 1},
	{diskCounter("container_fs_write_seconds_total", "Cumulative count of seconds spent writing"), 7, 1000},
	{gauge("container_fs_io_current", "Number of I/Os currently in progress", append(containerLabels, "device")...), 8, 1},
	{diskCounter("container_fs_io_time_seconds_total", "Cumulative count of seconds spent doing I/Os"), 9, 1000},
	{diskCounter("container_fs_io_time_weighted_seconds_total", "Cumulative weighted I/O time in seconds"), 10, 1000},
}

func diskCounter(name, help string) family {
	return counter(name, help, append(containerLabels, "device")...)
}

// disk is one device that was used.
type disk struct {
	name    string
	numbers [11]float64
}

func parseDisks(text string) (out []disk) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		d := disk{}
		if len(fields) < 3+len(d.numbers) {
			continue
		}
		d.name = fields[2]
		for i := range d.numbers {
			fmt.Sscan(fields[3+i], &d.numbers[i])
		}
		if d.numbers[0] > 0 || d.numbers[4] > 0 { // read or written at all
			out = append(out, d)
		}
	}
	return out
}

// addDisks adds what the disks have done.
func addDisks(out *sheet, at time.Time, root []string) {
	text, _ := os.ReadFile("/proc/diskstats") // without it nothing is told of disks
	for _, d := range parseDisks(string(text)) {
		for _, f := range diskFamilies {
			out.add(f.family, at, d.numbers[f.field]/f.divisor, append(root[:len(root):len(root)], "/dev/"+d.name)...)
		}
	}
}
