package cluster

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"clipper.dev/clipper/internal/kubelet/resources"
	"clipper.dev/clipper/internal/kubelet/resources/memory"
)

// ResourceOptions say what a node keeps for itself, and how it gives the rest to pods. The flags are the kubelet's.
type ResourceOptions struct {
	KubeReserved, SystemReserved map[string]string
	ReservedMemory               []string

	Policies resources.Policies
}

// resourceFlags are those that further nodes on a machine share with the first.
var resourceFlags = []string{
	"kube-reserved", "system-reserved", "reserved-cpus", "reserved-memory", "cpu-manager-policy", "cpu-manager-policy-options", "cpu-manager-reconcile-period",
	"memory-manager-policy", "topology-manager-policy", "topology-manager-scope", "topology-manager-policy-options",
}

// ResourceFlags lists the flags of ResourceOptions.
func ResourceFlags() []string { return resourceFlags }

func (o *ResourceOptions) addFlags(f *pflag.FlagSet) {
	p := &o.Policies
	f.StringToStringVar(&o.KubeReserved, "kube-reserved", nil, "what the node keeps for Kubernetes: cpu=200m,memory=500Mi,ephemeral-storage=1Gi")
	f.StringToStringVar(&o.SystemReserved, "system-reserved", nil, "what the node keeps for the system: cpu=200m,memory=500Mi,ephemeral-storage=1Gi")
	f.StringVar(&p.ReservedSystemCPUs, "reserved-cpus", "", "CPUs that the node keeps, by their numbers: 0-1,8; they replace CPUs in --kube-reserved and --system-reserved")
	f.StringArrayVar(&o.ReservedMemory, "reserved-memory", nil, "from which NUMA node the node keeps memory, repeatedly: 0:memory=1Gi,hugepages-2Mi=64Mi")
	f.StringVar(&p.CPUManagerPolicy, "cpu-manager-policy", "none", "whether containers may have CPUs for themselves: none or static")
	f.StringToStringVar(&p.CPUManagerPolicyOptions, "cpu-manager-policy-options", nil, "options of that policy: full-pcpus-only=true,…")
	f.DurationVar(&p.CPUManagerReconcilePeriod, "cpu-manager-reconcile-period", 10*time.Second, "how often containers are put on their CPUs although nothing has changed")
	f.StringVar(&p.MemoryManagerPolicy, "memory-manager-policy", "None", "whether containers get memory of chosen NUMA nodes: None or Static")
	f.StringVar(&p.TopologyManagerPolicy, "topology-manager-policy", "none", "how strictly resources come from the same NUMA nodes: none, best-effort, restricted or single-numa-node")
	f.StringVar(&p.TopologyManagerScope, "topology-manager-scope", "container", "for what resources come from the same NUMA nodes: container or pod")
	f.StringToStringVar(&p.TopologyManagerPolicyOptions, "topology-manager-policy-options", nil, "options of that policy: prefer-closest-numa-nodes=true,…")
}

// policies returns how the node gives resources.
func (o *ResourceOptions) policies() (resources.Policies, error) {
	p := o.Policies
	for _, text := range o.ReservedMemory {
		r, err := memory.ParseReservation(text)
		if err != nil {
			return p, fmt.Errorf("--reserved-memory: %w", err)
		}
		p.ReservedMemory = append(p.ReservedMemory, r)
	}
	if p.CPUManagerReconcilePeriod < 0 {
		return p, fmt.Errorf("--cpu-manager-reconcile-period %v: use a positive duration", p.CPUManagerReconcilePeriod)
	}
	return p, nil
}

// parseReserved reads what a node keeps.
func parseReserved(flag string, given map[string]string) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	for name, value := range given {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "pid":
		default:
			return nil, fmt.Errorf("%s: cannot reserve %q resource", flag, name)
		}
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("%s: failed to parse quantity %q for %q resource: %w", flag, value, name, err)
		}
		if q.Sign() < 0 {
			return nil, fmt.Errorf("%s: resource quantity for %q cannot be negative: %v", flag, name, value)
		}
		out[corev1.ResourceName(name)] = q
	}
	return out, nil
}
