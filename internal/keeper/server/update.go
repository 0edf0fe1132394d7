package server

import (
	"fmt"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"clipper.dev/clipper/internal/keeper/wire"
)

// update changes a running container's resources; what is not given stays as it is.
func (s *Server) update(request *wire.Update) error {
	c, err := s.container(request.ID)
	if err != nil {
		return err
	}
	if !c.running() {
		return notRunning(request.ID)
	}
	if request.Resources == nil {
		return invalid("update of container %s names no resources", request.ID)
	}
	box, err := c.runtime()
	if err != nil {
		return fmt.Errorf("update container %s: %w", request.ID, err)
	}
	config := box.Config()
	resources := *config.Cgroups.Resources
	apply(&resources, request.Resources)
	group := *config.Cgroups
	group.Resources = &resources
	config.Cgroups = &group
	if err := box.Set(config); err != nil {
		return fmt.Errorf("update container %s: %w", request.ID, err)
	}
	return nil
}

func apply(to *cgroups.Resources, from *specs.LinuxResources) {
	if cpu := from.CPU; cpu != nil {
		set(&to.CpuShares, cpu.Shares)
		set(&to.CpuQuota, cpu.Quota)
		set(&to.CpuPeriod, cpu.Period)
		if cpu.Shares != nil {
			to.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*cpu.Shares)
		}
		if cpu.Cpus != "" {
			to.CpusetCpus = cpu.Cpus
		}
		if cpu.Mems != "" {
			to.CpusetMems = cpu.Mems
		}
	}
	if memory := from.Memory; memory != nil {
		set(&to.Memory, memory.Limit)
		set(&to.MemorySwap, memory.Swap)
		set(&to.MemoryReservation, memory.Reservation)
	}
	if from.Pids != nil && from.Pids.Limit != nil {
		limit := *from.Pids.Limit
		to.PidsLimit = &limit
	}
	for _, page := range from.HugepageLimits {
		to.HugetlbLimit = append(to.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: page.Pagesize, Limit: page.Limit})
	}
	if len(from.Unified) > 0 {
		to.Unified = from.Unified
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
