package resources

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/cpu"
	"clipper.dev/clipper/internal/kubelet/resources/memory"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// defaultReconcile is how often containers are put on their CPUs although nothing has changed.
const defaultReconcile = 10 * time.Second

// Policies are how a node gives resources, named as in KubeletConfiguration. Zero values are upstream's defaults.
type Policies struct {
	CPUManagerPolicy          string // none or static
	CPUManagerPolicyOptions   map[string]string
	CPUManagerReconcilePeriod time.Duration
	// ReservedSystemCPUs are kept from containers that have CPUs of their own, as "0-1,8".
	ReservedSystemCPUs string
	// ExclusiveQuota holds containers with CPUs of their own to their CPU limits too.
	ExclusiveQuota bool

	MemoryManagerPolicy string // None or Static
	ReservedMemory      []memory.Reservation

	TopologyManagerPolicy        string // none, best-effort, restricted or single-numa-node
	TopologyManagerScope         string // container or pod
	TopologyManagerPolicyOptions map[string]string
}

// complete fills in defaults.
func (p Policies) complete() Policies {
	p.CPUManagerPolicy = cmp.Or(p.CPUManagerPolicy, cpu.PolicyNone)
	p.CPUManagerReconcilePeriod = cmp.Or(p.CPUManagerReconcilePeriod, defaultReconcile)
	p.MemoryManagerPolicy = cmp.Or(p.MemoryManagerPolicy, memory.PolicyNone)
	p.TopologyManagerPolicy = cmp.Or(p.TopologyManagerPolicy, topology.PolicyNone)
	p.TopologyManagerScope = cmp.Or(p.TopologyManagerScope, topology.ScopeContainer)
	return p
}

// Reserved returns the CPUs that are reserved by their numbers.
func (p *Policies) Reserved() (cpuset.CPUSet, error) {
	set, err := cpuset.Parse(p.ReservedSystemCPUs)
	if err != nil {
		return set, fmt.Errorf("unable to parse reserved-cpus list: %w", err)
	}
	return set, nil
}

// place tells whether any policy asks where resources are.
func (p *Policies) place() bool {
	return p.CPUManagerPolicy != cpu.PolicyNone || p.MemoryManagerPolicy != memory.PolicyNone || p.TopologyManagerPolicy != topology.PolicyNone || p.ReservedSystemCPUs != ""
}
