package server

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
)

var machineLabels = []string{"boot_id", "machine_id", "system_uuid"}

// The families of /metrics/cadvisor that tell of the machine.
var (
	machineCores   = gauge("machine_cpu_cores", "Number of logical CPU cores.", machineLabels...)
	machineWhole   = gauge("machine_cpu_physical_cores", "Number of physical CPU cores.", machineLabels...)
	machineSockets = gauge("machine_cpu_sockets", "Number of CPU sockets.", machineLabels...)
	machineMemory  = gauge("machine_memory_bytes", "Amount of memory installed on the machine.", machineLabels...)
	machineSwap    = gauge("machine_swap_bytes", "Amount of swap memory available on the machine.", machineLabels...)
	machineFailure = gauge("machine_scrape_error", "1 if there was an error while getting machine metrics, 0 otherwise.")
	machineVersion = gauge("cadvisor_version_info",
		"A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
		"cadvisorRevision", "cadvisorVersion", "dockerVersion", "kernelVersion", "osVersion")
)

// layout is the machine's, which stays as it was when somebody asked first.
var layout = sync.OnceValues(func() (*machine.Topology, error) { return machine.Read("/sys") })

// addMachine tells of the machine.
func (s *server) addMachine(out *sheet) {
	labels := []string{s.Machine.BootID, s.Machine.MachineID, s.Machine.SystemUUID}
	cores, memory := s.Capacity[corev1.ResourceCPU], s.Capacity[corev1.ResourceMemory]
	out.add(machineVersion, time.Time{}, 1, "", "", "", s.Machine.KernelVersion, s.Machine.OSImage)
	out.add(machineCores, time.Time{}, float64(cores.Value()), labels...)
	out.add(machineMemory, time.Time{}, float64(memory.Value()), labels...)
	swap := int64(0)
	if s.Machine.Swap != nil && s.Machine.Swap.Capacity != nil {
		swap = *s.Machine.Swap.Capacity
	}
	out.add(machineSwap, time.Time{}, float64(swap), labels...)
	topology, err := layout()
	out.add(machineFailure, time.Time{}, flag(err != nil))
	if err != nil {
		s.Logger.Debug("the machine's layout not read", "error", err)
		return
	}
	out.add(machineWhole, time.Time{}, float64(topology.Count(machine.Core)), labels...)
	out.add(machineSockets, time.Time{}, float64(topology.Count(machine.Socket)), labels...)
}

// flag is 1 for what is so.
func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
