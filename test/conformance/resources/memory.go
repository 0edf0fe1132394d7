package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sort"

	cadvisorapi "github.com/google/cadvisor/info/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/memorymanager"
	memstate "k8s.io/kubernetes/pkg/kubelet/cm/memorymanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
)

// MemStep is a pod that comes or goes, and what followed. Requests are in MiB.
type MemStep struct {
	Remove   string               `json:"remove,omitempty"`
	Pod      string               `json:"pod,omitempty"`
	Init     uint64               `json:"init,omitempty"` // MiB
	Memory   uint64               `json:"memory,omitempty"`
	Huge     uint64               `json:"huge,omitempty"`
	Affinity *Hint                `json:"affinity,omitempty"`
	Hints    []Hint               `json:"hints,omitempty"`
	Blocks   []memstate.Block     `json:"blocks,omitempty"`
	InitLeft *uint64              `json:"initLeft,omitempty"`
	Error    string               `json:"error,omitempty"`
	State    memstate.NUMANodeMap `json:"state"`
}

// MemCase is a machine's story.
type MemCase struct {
	Nodes int       `json:"nodes"`
	Steps []MemStep `json:"steps"`
}

const mi = 1 << 20

func memCases(dir string) {
	r := rand.New(rand.NewPCG(5, 6))
	var cases []MemCase
	for _, n := range []int{1, 2, 2, 4, 4, 4} {
		m := newMemMachine(r, n)
		c := MemCase{Nodes: n}
		for i := range 25 {
			step := m.remove()
			if step == nil {
				step = m.add(fmt.Sprint("pod", i))
			}
			step.State = m.state.GetMachineState().Clone()
			c.Steps = append(c.Steps, *step)
		}
		cases = append(cases, c)
	}
	write(dir+"/static-memory.json", cases)
}

// memMachine is upstream's policy on a machine, with the pods that are there.
type memMachine struct {
	r      *rand.Rand
	nodes  int
	store  *store
	policy memorymanager.Policy
	state  memstate.State
	live   []string
}

func newMemMachine(r *rand.Rand, nodes int) *memMachine {
	info := &cadvisorapi.MachineInfo{}
	reserved := map[int]map[v1.ResourceName]uint64{}
	for i := range nodes {
		info.Topology = append(info.Topology, cadvisorapi.Node{Id: i, Memory: 1024 * mi, HugePages: []cadvisorapi.HugePagesInfo{{PageSize: 2048, NumPages: 64}}})
		reserved[i] = map[v1.ResourceName]uint64{"memory": 64 * mi}
	}
	m := &memMachine{r: r, nodes: nodes, store: &store{}}
	var err error
	m.policy, err = memorymanager.NewPolicyStatic(klog.Logger{}, info, reserved, m.store)
	must(err)
	tmp, err := os.MkdirTemp("", "memory")
	must(err)
	m.state, err = memstate.NewCheckpointState(klog.Logger{}, tmp, "s", "Static")
	must(err)
	must(m.policy.Start(klog.Logger{}, m.state))
	return m
}

func (m *memMachine) release(pod string) {
	for _, container := range []string{"init", "app"} {
		m.policy.RemoveContainer(klog.Logger{}, m.state, pod, container)
	}
}

// remove lets a pod go at times; nil is that none does.
func (m *memMachine) remove() *MemStep {
	if len(m.live) == 0 || m.r.IntN(3) != 0 {
		return nil
	}
	i := m.r.IntN(len(m.live))
	name := m.live[i]
	m.live = append(m.live[:i], m.live[i+1:]...)
	m.release(name)
	return &MemStep{Remove: name}
}

// add has a pod come.
func (m *memMachine) add(name string) *MemStep {
	step := &MemStep{Pod: name, Memory: uint64(50 * (1 + m.r.IntN(20)))}
	if m.r.IntN(5) == 0 {
		step.Memory *= 2
	}
	if m.r.IntN(3) == 0 {
		step.Huge = uint64(2 * (1 + m.r.IntN(100)))
	}
	if m.r.IntN(3) == 0 {
		step.Init = uint64(50 * (1 + m.r.IntN(20)))
	}
	pod := &v1.Pod{}
	pod.UID = types.UID(name)
	if step.Init > 0 {
		pod.Spec.InitContainers = []v1.Container{memContainer("init", step.Init, 0)}
	}
	pod.Spec.Containers = []v1.Container{memContainer("app", step.Memory, step.Huge)}
	m.choose(step, m.policy.GetTopologyHints(klog.Logger{}, m.state, pod, &pod.Spec.Containers[0])["memory"])
	var err error
	if step.Init > 0 {
		err = m.policy.Allocate(klog.Logger{}, m.state, pod, &pod.Spec.InitContainers[0])
	}
	if err == nil {
		err = m.policy.Allocate(klog.Logger{}, m.state, pod, &pod.Spec.Containers[0])
	}
	if err != nil {
		step.Error = err.Error()
		m.release(name)
		return step
	}
	m.live = append(m.live, name)
	step.Blocks = append([]memstate.Block(nil), m.state.GetMemoryBlocks(name, "app")...)
	sort.Slice(step.Blocks, func(a, b int) bool { return step.Blocks[a].Type < step.Blocks[b].Type })
	if step.Init > 0 {
		left := m.state.GetMemoryBlocks(name, "init")[0].Size
		step.InitLeft = &left
	}
	return step
}

func memContainer(name string, memory, huge uint64) v1.Container {
	list := v1.ResourceList{"cpu": resource.MustParse("1"), "memory": *resource.NewQuantity(int64(memory*mi), resource.BinarySI)}
	if huge > 0 {
		list["hugepages-2Mi"] = *resource.NewQuantity(int64(huge*mi), resource.BinarySI)
	}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: list, Limits: list}}
}

// choose plays the topology manager: any hint, one of those that were given, or none.
func (m *memMachine) choose(step *MemStep, all []topologymanager.TopologyHint) {
	step.Hints = hints(all)
	m.store.hint = topologymanager.TopologyHint{}
	switch m.r.IntN(4) {
	case 0:
		h := Hint{uint64(1 + m.r.IntN(1<<m.nodes-1)), m.r.IntN(2) == 0}
		step.Affinity = &h
		m.store.hint = topologymanager.TopologyHint{NUMANodeAffinity: mask(h.Nodes), Preferred: h.Preferred}
	case 1, 2:
		if len(all) > 0 {
			h := all[m.r.IntN(len(all))]
			step.Affinity = &Hint{num(h.NUMANodeAffinity), h.Preferred}
			m.store.hint = h
		}
	}
}
