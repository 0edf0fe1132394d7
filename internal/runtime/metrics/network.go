package metrics

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Traffic is what went through a network interface in one direction.
type Traffic struct {
	Bytes, Packets, Errors, Dropped uint64
}

// Interface is a network interface and its counters.
type Interface struct {
	Name              string
	Receive, Transmit Traffic
}

// ReadInterfaces reads the counters of a process's network interfaces, loopback excepted; there are none if it has ended.
func ReadInterfaces(pid int) []Interface {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	return parseInterfaces(string(data))
}

func parseInterfaces(text string) []Interface {
	var list []Interface
	for line := range strings.Lines(text) {
		name, counters, ok := strings.Cut(line, ":")
		fields := strings.Fields(counters)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(fields) < 12 {
			continue
		}
		traffic := func(first int) Traffic {
			var n [4]uint64
			for i := range n {
				n[i], _ = strconv.ParseUint(fields[first+i], 10, 64) // the kernel writes numbers
			}
			return Traffic{Bytes: n[0], Packets: n[1], Errors: n[2], Dropped: n[3]}
		}
		list = append(list, Interface{Name: name, Receive: traffic(0), Transmit: traffic(8)})
	}
	return list
}

// AddInterfaces tells what went through a pod's interfaces.
func (s *Set) AddInterfaces(list []Interface) {
	for _, face := range list {
		s.addTraffic("container_network_receive", face.Name, face.Receive)
		s.addTraffic("container_network_transmit", face.Name, face.Transmit)
	}
}

func (s *Set) addTraffic(prefix, face string, t Traffic) {
	s.add(prefix+"_bytes_total", t.Bytes, face)
	s.add(prefix+"_packets_total", t.Packets, face)
	s.add(prefix+"_packets_dropped_total", t.Dropped, face)
	s.add(prefix+"_errors_total", t.Errors, face)
}
