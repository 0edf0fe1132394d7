package main

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	cpustate "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	cputopo "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/utils/cpuset"
)

// Shape is a machine whose sockets, NUMA nodes and caches have as many cores each.
type Shape struct {
	Name string   `json:"name"`
	CPUs [][4]int `json:"cpus"` // core, socket, numa, uncore by id
}

func shape(name string, sockets, nodes, caches, cores, threads int, interleave bool) Shape {
	s := Shape{Name: name}
	n := cores * threads
	s.CPUs = make([][4]int, n)
	for id := 0; id < n; id++ {
		core := id % cores // threads of a core are cores apart
		place := core
		if interleave {
			place = core%sockets*(cores/sockets) + core/sockets
		}
		s.CPUs[id] = [4]int{core, place * sockets / cores, place * nodes / cores, place * caches / cores}
	}
	return s
}

func (s Shape) topo() *cputopo.CPUTopology {
	d := cputopo.CPUDetails{}
	for id, c := range s.CPUs {
		d[id] = cputopo.CPUInfo{CoreID: c[0], SocketID: c[1], NUMANodeID: c[2], UncoreCacheID: c[3]}
	}
	return &cputopo.CPUTopology{NumCPUs: len(s.CPUs), NumCores: d.Cores().Size(), NumSockets: d.Sockets().Size(), NumNUMANodes: d.NUMANodes().Size(), NumUncoreCache: d.UncoreCaches().Size(), CPUDetails: d}
}

// Step is a pod that comes or goes, and what followed.
type Step struct {
	Remove   string `json:"remove,omitempty"` // pod
	Pod      string `json:"pod,omitempty"`
	Init     int    `json:"init,omitempty"` // CPUs of an init container
	Count    int    `json:"count,omitempty"`
	Affinity uint64 `json:"affinity,omitempty"`
	Hints    []Hint `json:"hints,omitempty"`
	InitSet  string `json:"initSet,omitempty"`
	Set      string `json:"set,omitempty"`
	Error    string `json:"error,omitempty"`
	Shared   string `json:"shared"`
}

// Case is a machine's story.
type Case struct {
	Shape    string            `json:"shape"`
	Options  map[string]string `json:"options,omitempty"`
	Reserved int               `json:"reserved"`
	Steps    []Step            `json:"steps"`
}

func cpuPod(name string, init, count int) *v1.Pod {
	pod := &v1.Pod{}
	pod.UID, pod.Name = types.UID(name), name
	c := func(name string, n int) v1.Container {
		l := v1.ResourceList{"cpu": *resource.NewQuantity(int64(n), resource.DecimalSI), "memory": resource.MustParse("1Gi")}
		return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: l, Limits: l}}
	}
	if init > 0 {
		pod.Spec.InitContainers = []v1.Container{c("init", init)}
	}
	pod.Spec.Containers = []v1.Container{c("app", count)}
	return pod
}

func cpuCases(dir string) {
	must(utilfeature.DefaultMutableFeatureGate.Set("CPUManagerPolicyAlphaOptions=true"))
	shapes := []Shape{
		shape("2 sockets, 2 nodes, 4 caches, 8 cores, 16 threads", 2, 2, 4, 8, 2, false),
		shape("2 sockets, 4 nodes, 8 caches, 16 cores, 32 threads", 2, 4, 8, 16, 2, false),
		shape("1 socket, 4 nodes, 4 caches, 16 cores", 1, 4, 4, 16, 1, false),
		shape("4 sockets, 2 nodes, 4 caches, 8 cores, 16 threads", 4, 2, 4, 8, 2, false),
		shape("2 interleaved sockets, 2 nodes, 2 caches, 6 cores, 12 threads", 2, 2, 2, 6, 2, true),
		shape("1 socket, 1 node, 4 caches, 16 cores, 32 threads", 1, 1, 4, 16, 2, false),
	}
	opts := []map[string]string{nil, {"full-pcpus-only": "true"}, {"distribute-cpus-across-numa": "true"}, {"distribute-cpus-across-numa": "true", "full-pcpus-only": "true"},
		{"align-by-socket": "true"}, {"strict-cpu-reservation": "true"}, {"prefer-align-cpus-by-uncorecache": "true"}, {"prefer-align-cpus-by-uncorecache": "true", "full-pcpus-only": "true"}, {"distribute-cpus-across-cores": "true"}}
	var cases []Case
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range shapes {
		for _, o := range opts {
			topo := s.topo()
			if o["align-by-socket"] != "" && topo.NumSockets > topo.NumNUMANodes {
				continue
			}
			m := newCPUMachine(r, topo, o)
			c := Case{Shape: s.Name, Options: o, Reserved: m.reserved}
			for i := range 14 {
				step := m.remove()
				if step == nil {
					step = m.add(fmt.Sprint("pod", i))
				}
				step.Shared = m.state.GetDefaultCPUSet().String()
				c.Steps = append(c.Steps, *step)
			}
			cases = append(cases, c)
		}
	}
	write(dir+"/static-cpus.json", map[string]any{"shapes": shapes, "cases": cases})
}

// cpuMachine is upstream's policy on a machine, with the pods that are there.
type cpuMachine struct {
	r        *rand.Rand
	topo     *cputopo.CPUTopology
	store    *store
	reserved int
	policy   cpumanager.Policy
	state    cpustate.State
	live     []string
}

func newCPUMachine(r *rand.Rand, topo *cputopo.CPUTopology, options map[string]string) *cpuMachine {
	m := &cpuMachine{r: r, topo: topo, store: &store{}, reserved: 1 + r.IntN(3)}
	var err error
	m.policy, err = cpumanager.NewStaticPolicy(logr.Discard(), topo, m.reserved, cpuset.New(), m.store, options)
	must(err)
	tmp, err := os.MkdirTemp("", "cpus")
	must(err)
	m.state, err = cpustate.NewCheckpointState(logr.Discard(), tmp, "s", "static", containermap.NewContainerMap())
	must(err)
	must(m.policy.Start(logr.Discard(), m.state))
	return m
}

func (m *cpuMachine) release(pod string) {
	for _, container := range []string{"init", "app"} {
		must(m.policy.RemoveContainer(logr.Discard(), m.state, pod, container))
	}
}

// remove lets a pod go at times; nil is that none does.
func (m *cpuMachine) remove() *Step {
	if len(m.live) == 0 || m.r.IntN(4) != 0 {
		return nil
	}
	i := m.r.IntN(len(m.live))
	name := m.live[i]
	m.live = append(m.live[:i], m.live[i+1:]...)
	m.release(name)
	return &Step{Remove: name}
}

// add has a pod come.
func (m *cpuMachine) add(name string) *Step {
	step := &Step{Pod: name, Count: 1 + m.r.IntN(m.topo.NumCPUs/3+1)}
	if m.r.IntN(3) == 0 {
		step.Init = 1 + m.r.IntN(m.topo.NumCPUs/3)
	}
	if m.r.IntN(2) == 0 {
		step.Affinity = uint64(1 + m.r.IntN(1<<m.topo.NumNUMANodes-1))
	}
	pod := cpuPod(step.Pod, step.Init, step.Count)
	m.store.hint = topologymanager.TopologyHint{NUMANodeAffinity: mask(step.Affinity)}
	var err error
	if step.Init > 0 {
		err = m.policy.Allocate(logr.Discard(), m.state, pod, &pod.Spec.InitContainers[0])
	}
	if err == nil {
		step.Hints = hints(m.policy.GetTopologyHints(logr.Discard(), m.state, pod, &pod.Spec.Containers[0])["cpu"])
		err = m.policy.Allocate(logr.Discard(), m.state, pod, &pod.Spec.Containers[0])
	}
	if err != nil {
		step.Error = err.Error()
		m.release(name)
		return step
	}
	m.live = append(m.live, name)
	set, _ := m.state.GetCPUSet(name, "app")
	step.Set = set.String()
	if step.Init > 0 {
		set, _ = m.state.GetCPUSet(name, "init")
		step.InitSet = set.String()
	}
	return step
}
