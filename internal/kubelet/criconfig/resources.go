package criconfig

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// The kernel's units of CPU.
const (
	minShares       = 2
	maxShares       = 262144
	sharesPerCPU    = 1024
	milliPerCPU     = 1000
	minQuota        = 1000
	oomGuaranteed   = -997
	oomBestEffort   = 1000
	nodeCriticality = 2000001000 // priority of system-node-critical
)

// Shares converts thousandths of a CPU into the kernel's relative weight.
func Shares(milliCPU int64) int64 {
	if milliCPU == 0 {
		return minShares
	}
	return min(max(milliCPU*sharesPerCPU/milliPerCPU, minShares), maxShares)
}

// Quota converts thousandths of a CPU into microseconds per period; 0 is no limit.
func Quota(milliCPU int64, period time.Duration) int64 {
	if milliCPU == 0 {
		return 0
	}
	return max(milliCPU*period.Microseconds()/milliPerCPU, minQuota)
}

func (n *Node) linuxResources(request, limit *resource.Quantity, memoryLimit int64) *runtimeapi.LinuxContainerResources {
	if request == nil {
		request = limit
	}
	r := &runtimeapi.LinuxContainerResources{CpuShares: Shares(request.MilliValue()), MemoryLimitInBytes: memoryLimit}
	if n.CPUCFSQuota {
		r.CpuPeriod = n.QuotaPeriod.Microseconds()
		r.CpuQuota = Quota(limit.MilliValue(), n.QuotaPeriod)
	}
	return r
}

// Resources returns the limits of one container.
func Resources(n *Node, pod *corev1.Pod, c *corev1.Container) *runtimeapi.LinuxContainerResources {
	var request *resource.Quantity
	if q, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		request = &q
	}
	cpu, memory := c.Resources.Limits.Cpu(), c.Resources.Limits.Memory()
	if pod.Spec.Resources != nil {
		if cpu.IsZero() {
			cpu = pod.Spec.Resources.Limits.Cpu()
		}
		if memory.IsZero() {
			memory = pod.Spec.Resources.Limits.Memory()
		}
	}
	r := n.linuxResources(request, cpu, memory.Value())
	r.OomScoreAdj = OOMScore(n, pod, c)
	r.HugepageLimits = hugepages(n, c)
	if n.CgroupV2 {
		r.Unified = map[string]string{}
		if !n.SingleOOMKill {
			r.Unified["memory.oom.group"] = "1"
		}
	}
	if n.SwapAccounting {
		if n.CgroupV2 {
			r.Unified["memory.swap.max"] = "0"
		} else {
			r.MemorySwapLimitInBytes = r.MemoryLimitInBytes
		}
	}
	return r
}

// ResourcesKey writes what a container is granted in short, so that a change is recognized: CPU request and limit in thousandths, memory request and limit in bytes.
func ResourcesKey(pod *corev1.Pod, c *corev1.Container) string {
	cpu, memory := c.Resources.Limits.Cpu(), c.Resources.Limits.Memory()
	if pod.Spec.Resources != nil {
		if cpu.IsZero() {
			cpu = pod.Spec.Resources.Limits.Cpu()
		}
		if memory.IsZero() {
			memory = pod.Spec.Resources.Limits.Memory()
		}
	}
	return lifecycle.JoinResources(c.Resources.Requests.Cpu().MilliValue(), cpu.MilliValue(), c.Resources.Requests.Memory().Value(), memory.Value())
}

// podResources returns the sum of what the pod's containers may use, for runtimes that size a virtual machine by it.
func (n *Node) podResources(pod *corev1.Pod) *runtimeapi.LinuxContainerResources {
	opts := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
	requests, limits := resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts)
	return n.linuxResources(requests.Cpu(), limits.Cpu(), limits.Memory().Value())
}

func hugepages(n *Node, c *corev1.Container) []*runtimeapi.HugepageLimit {
	limits := map[string]uint64{}
	for name, q := range c.Resources.Limits {
		if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
			if parsed, err := resource.ParseQuantity(size); err == nil {
				limits[pageSizeName(parsed.Value())] = uint64(q.Value())
			}
		}
	}
	var out []*runtimeapi.HugepageLimit
	for _, size := range n.PageSizes {
		out = append(out, &runtimeapi.HugepageLimit{PageSize: size, Limit: limits[size]})
	}
	return out
}

// pageSizeName names a page size as the kernel's control files do: 2MB, 1GB.
func pageSizeName(bytes int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	i := 0
	for bytes >= 1024 && bytes%1024 == 0 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", bytes, units[i])
}

// OOMScore returns how readily the kernel kills the container's processes when the node runs out of memory.
func OOMScore(n *Node, pod *corev1.Pod, c *corev1.Container) int64 {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= nodeCriticality {
		return oomGuaranteed
	}
	switch lifecycle.QOS(pod) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	if n.MemoryCapacity <= 0 {
		return oomBestEffort - 1
	}
	share := sharedRequest(pod)
	score := oomBestEffort - oomBestEffort*(c.Resources.Requests.Memory().Value()+share)/n.MemoryCapacity
	if c.RestartPolicy != nil && isInit(pod, c) {
		// A sidecar goes no earlier than the regular containers that it serves.
		score = min(score, oomBestEffort-oomBestEffort*(leastRegularRequest(pod)+share)/n.MemoryCapacity)
	}
	if score < oomBestEffort+oomGuaranteed {
		return oomBestEffort + oomGuaranteed
	}
	if score == oomBestEffort {
		return score - 1
	}
	return score
}

// sharedRequest is each container's part of the memory that the pod as a whole requests beyond its containers.
func sharedRequest(pod *corev1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	podRequest, ok := pod.Spec.Resources.Requests[corev1.ResourceMemory]
	if !ok {
		return 0
	}
	rest, count := podRequest.Value(), int64(len(pod.Spec.Containers))
	for i := range pod.Spec.Containers {
		rest -= pod.Spec.Containers[i].Resources.Requests.Memory().Value()
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; lifecycle.IsSidecar(c) {
			rest -= c.Resources.Requests.Memory().Value()
			count++
		}
	}
	return max(rest, 0) / count
}

func isInit(pod *corev1.Pod, c *corev1.Container) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return lifecycle.IsSidecar(c)
		}
	}
	return false
}

func leastRegularRequest(pod *corev1.Pod) int64 {
	least := pod.Spec.Containers[0].Resources.Requests.Memory().Value()
	for i := range pod.Spec.Containers {
		least = min(least, pod.Spec.Containers[i].Resources.Requests.Memory().Value())
	}
	return least
}
