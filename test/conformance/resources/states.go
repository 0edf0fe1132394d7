package main

import (
	"os"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"k8s.io/kubernetes/pkg/kubelet/checkpointmanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	cpustate "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint"
	memstate "k8s.io/kubernetes/pkg/kubelet/cm/memorymanager/state"
	"k8s.io/utils/cpuset"
)

// states writes the files of managers that have given nothing and of managers that have.
func states(data func(pkg string) string) {
	for _, pkg := range []string{"cpu", "memory", "device"} {
		for _, what := range []string{"none", "given"} {
			dir := data(pkg) + "/" + what
			must(os.RemoveAll(dir)) // upstream goes on where it finds itself
			must(os.MkdirAll(dir, 0o755))
		}
	}
	cpuStates(data("cpu"))
	memoryStates(data("memory"))
	deviceStates(data("device"))
}

func cpuStates(dir string) {
	_, err := cpustate.NewCheckpointState(logr.Discard(), dir+"/none", "cpu_manager_state", "none", containermap.NewContainerMap())
	must(err)
	c, err := cpustate.NewCheckpointState(logr.Discard(), dir+"/given", "cpu_manager_state", "static", containermap.NewContainerMap())
	must(err)
	c.SetDefaultCPUSet(cpuset.New(0, 1, 2, 3))
	c.SetCPUSet("uid-1", "app", cpuset.New(4, 5))
	c.SetCPUSet("uid-1", "side", cpuset.New(6))
	c.SetCPUSet("uid-2", "app", cpuset.New(7, 8, 9))
}

func memoryStates(dir string) {
	_, err := memstate.NewCheckpointState(klog.Logger{}, dir+"/none", "memory_manager_state", "None")
	must(err)
	m, err := memstate.NewCheckpointState(klog.Logger{}, dir+"/given", "memory_manager_state", "Static")
	must(err)
	m.SetMachineState(memstate.NUMANodeMap{
		0: {NumberOfAssignments: 2, Cells: []int{0}, MemoryMap: map[v1.ResourceName]*memstate.MemoryTable{
			"memory": {TotalMemSize: 1 << 30, SystemReserved: 1 << 20, Allocatable: 1<<30 - 1<<20, Reserved: 1 << 20, Free: 1<<30 - 2<<20}, "hugepages-2Mi": {TotalMemSize: 4 << 20, Allocatable: 4 << 20, Reserved: 2 << 20, Free: 2 << 20}}},
		1: {Cells: []int{1}, MemoryMap: map[v1.ResourceName]*memstate.MemoryTable{"memory": {TotalMemSize: 1 << 30, Allocatable: 1 << 30, Free: 1 << 30}}},
	})
	m.SetMemoryBlocks("uid-1", "app", []memstate.Block{{NUMAAffinity: []int{0}, Type: "hugepages-2Mi", Size: 2 << 20}, {NUMAAffinity: []int{0}, Type: "memory", Size: 1 << 20}})
}

func deviceStates(dir string) {
	cm, err := checkpointmanager.NewCheckpointManager(dir + "/none")
	must(err)
	must(cm.CreateCheckpoint("kubelet_internal_checkpoint", checkpoint.New(nil, map[string][]string{"example.com/dev": {"a", "b"}})))
	answer, err := proto.Marshal(&pluginapi.ContainerAllocateResponse{Envs: map[string]string{"DEV": "a"}})
	must(err)
	cm, err = checkpointmanager.NewCheckpointManager(dir + "/given")
	must(err)
	must(cm.CreateCheckpoint("kubelet_internal_checkpoint", checkpoint.New([]checkpoint.PodDevicesEntry{
		{PodUID: "uid-1", ContainerName: "app", ResourceName: "example.com/dev", DeviceIDs: checkpoint.DevicesPerNUMA{0: {"a"}, -1: {"c"}}, AllocResp: answer},
	}, map[string][]string{"example.com/dev": {"a", "b"}})))
}
