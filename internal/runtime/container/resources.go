package container

import (
	"os"
	"path/filepath"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// cgroupRoot is where the kernel's control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// kernelCgroups is what the machine's control groups offer.
type kernelCgroups struct {
	unified, swap, hugetlb bool
}

var probeCgroups = sync.OnceValue(func() kernelCgroups {
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(cgroupRoot, path))
		return err == nil
	}
	if exists("cgroup.controllers") {
		controllers, _ := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
		return kernelCgroups{unified: true, swap: exists("system.slice/memory.swap.max") || swapInUnified(), hugetlb: containsWord(string(controllers), "hugetlb")}
	}
	return kernelCgroups{swap: exists("memory/memory.memsw.limit_in_bytes"), hugetlb: exists("hugetlb")}
})

// swapInUnified looks for swap accounting in the cgroup of this process, since the root has no limits.
func swapInUnified() bool {
	matches, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "memory.swap.max"))
	return err == nil && len(matches) > 0
}

func containsWord(list, word string) bool {
	start := 0
	for i := 0; i <= len(list); i++ {
		if i == len(list) || list[i] == ' ' || list[i] == '\n' {
			if list[start:i] == word {
				return true
			}
			start = i + 1
		}
	}
	return false
}

// UnifiedCgroups tells whether the machine has cgroups in version 2.
func UnifiedCgroups() bool { return probeCgroups().unified }

// Resources translates limits into OCI's terms; what is zero is not set.
func Resources(from *runtimeapi.LinuxContainerResources) *specs.LinuxResources {
	to := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: from.GetCpusetCpus(), Mems: from.GetCpusetMems()}}
	if v := uint64(from.GetCpuShares()); v > 0 {
		to.CPU.Shares = &v
	}
	if v := from.GetCpuQuota(); v != 0 {
		to.CPU.Quota = &v
	}
	if v := uint64(from.GetCpuPeriod()); v > 0 {
		to.CPU.Period = &v
	}
	offered := probeCgroups()
	if limit := from.GetMemoryLimitInBytes(); limit != 0 {
		to.Memory = &specs.LinuxMemory{Limit: &limit}
		swap := from.GetMemorySwapLimitInBytes()
		if swap == 0 {
			swap = limit // no swap beyond the memory
		}
		if offered.swap {
			to.Memory.Swap = &swap
		}
	}
	if offered.hugetlb {
		for _, page := range from.GetHugepageLimits() {
			to.HugepageLimits = append(to.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: page.GetPageSize(), Limit: page.GetLimit()})
		}
	}
	if offered.unified && len(from.GetUnified()) > 0 {
		to.Unified = from.GetUnified()
	}
	return to
}

// Merge applies an update to resources that were recorded; what the update leaves zero stays.
func Merge(old, update *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	if old == nil {
		old = &runtimeapi.LinuxContainerResources{}
	}
	merged := &runtimeapi.LinuxContainerResources{
		CpuPeriod: pick(update.GetCpuPeriod(), old.GetCpuPeriod()), CpuQuota: pick(update.GetCpuQuota(), old.GetCpuQuota()),
		CpuShares:              pick(update.GetCpuShares(), old.GetCpuShares()),
		MemoryLimitInBytes:     pick(update.GetMemoryLimitInBytes(), old.GetMemoryLimitInBytes()),
		OomScoreAdj:            pick(update.GetOomScoreAdj(), old.GetOomScoreAdj()),
		CpusetCpus:             pick(update.GetCpusetCpus(), old.GetCpusetCpus()),
		CpusetMems:             pick(update.GetCpusetMems(), old.GetCpusetMems()),
		MemorySwapLimitInBytes: pick(update.GetMemorySwapLimitInBytes(), old.GetMemorySwapLimitInBytes()),
		HugepageLimits:         old.GetHugepageLimits(),
		Unified:                old.GetUnified(),
	}
	if len(update.GetHugepageLimits()) > 0 {
		merged.HugepageLimits = update.GetHugepageLimits()
	}
	if len(update.GetUnified()) > 0 {
		merged.Unified = update.GetUnified()
	}
	return merged
}

func pick[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}
