package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

const (
	minShares     = 2
	maxShares     = 262144
	defaultPeriod = 100 * time.Millisecond
	minQuota      = 1000
)

// Limits are what one group may use. Zero values set no limit.
type Limits struct {
	CPUShares int64
	CPUQuota  int64 // microseconds in each CPUPeriod
	CPUPeriod time.Duration
	Memory    int64 // bytes
	PIDs      int64
}

func sharesOf(milli int64) int64 {
	return min(max(milli*1024/1000, minShares), maxShares)
}

// PodLimits returns what the pod as a whole may use; period is over what time CPU limits hold, 0 is 100 ms. A limit holds for the pod only if every container has one.
func PodLimits(pod *corev1.Pod, period time.Duration) Limits {
	cpuBound, memoryBound := true, true
	declared := func(res corev1.ResourceList) {
		cpuBound = cpuBound && !res.Cpu().IsZero()
		memoryBound = memoryBound && !res.Memory().IsZero()
	}
	for i := range pod.Spec.Containers {
		declared(pod.Spec.Containers[i].Resources.Limits)
	}
	for i := range pod.Spec.InitContainers {
		declared(pod.Spec.InitContainers[i].Resources.Limits)
	}
	if r := pod.Spec.Resources; r != nil {
		cpuBound = cpuBound || !r.Limits.Cpu().IsZero()
		memoryBound = memoryBound || !r.Limits.Memory().IsZero()
	}
	opts := resourcehelper.PodResourcesOptions{}
	requests, limits := resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts)
	milli := requests.Cpu().MilliValue()
	if milli == 0 && cpuBound {
		milli = limits.Cpu().MilliValue()
	}
	out := Limits{CPUShares: sharesOf(milli), CPUPeriod: period}
	if cpuBound {
		out.CPUQuota = max(limits.Cpu().MilliValue()*cmp.Or(period, defaultPeriod).Microseconds()/1000, minQuota)
	}
	if memoryBound {
		out.Memory = limits.Memory().Value()
	}
	return out
}

func (t *Tree) apply(path string, l Limits) error {
	if t.v2 {
		return t.applyV2(filepath.Join(fsRoot, path), l)
	}
	return t.applyV1(path, l)
}

func (t *Tree) applyV1(path string, l Limits) error {
	cpu := filepath.Join(t.of["cpu"], path)
	quota := l.CPUQuota
	if quota == 0 {
		quota = -1
	}
	memory := l.Memory
	if memory == 0 {
		memory = -1
	}
	return errors.Join(
		set(filepath.Join(cpu, "cpu.shares"), strconv.FormatInt(max(l.CPUShares, minShares), 10)),
		ifPresent(set(filepath.Join(cpu, "cpu.cfs_period_us"), strconv.FormatInt(cmp.Or(l.CPUPeriod, defaultPeriod).Microseconds(), 10))),
		ifPresent(set(filepath.Join(cpu, "cpu.cfs_quota_us"), strconv.FormatInt(quota, 10))),
		set(filepath.Join(t.of["memory"], path, "memory.limit_in_bytes"), strconv.FormatInt(memory, 10)),
		t.applyPIDs(path, l.PIDs),
	)
}

func (t *Tree) applyV2(dir string, l Limits) error {
	quota, memory := "max", "max"
	if l.CPUQuota > 0 {
		quota = strconv.FormatInt(l.CPUQuota, 10)
	}
	if l.Memory > 0 {
		memory = strconv.FormatInt(l.Memory, 10)
	}
	// The kernel's own conversion of shares (2 to 262144) to weights (1 to 10000).
	weight := 1 + (max(l.CPUShares, minShares)-minShares)*9999/(maxShares-minShares)
	errs := []error{}
	if t.of["cpu"] != "" {
		errs = append(errs, set(filepath.Join(dir, "cpu.weight"), strconv.FormatInt(weight, 10)),
			set(filepath.Join(dir, "cpu.max"), fmt.Sprintf("%s %d", quota, cmp.Or(l.CPUPeriod, defaultPeriod).Microseconds())))
	}
	if t.of["memory"] != "" {
		errs = append(errs, set(filepath.Join(dir, "memory.max"), memory))
	}
	if t.of["pids"] != "" && l.PIDs > 0 {
		errs = append(errs, set(filepath.Join(dir, "pids.max"), strconv.FormatInt(l.PIDs, 10)))
	}
	return errors.Join(errs...)
}

func (t *Tree) applyPIDs(path string, n int64) error {
	if n <= 0 || t.of["pids"] == "" {
		return nil
	}
	return set(filepath.Join(t.of["pids"], path, "pids.max"), strconv.FormatInt(n, 10))
}

// set writes a value unless it's there already: a write can be far slower than a read.
func set(path, value string) error {
	if have, err := os.ReadFile(path); err == nil && string(have) == value+"\n" {
		return nil
	}
	return write(path, value)
}

// ifPresent forgives a file that the kernel was built without.
func ifPresent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// UpdateQOS weighs the two shared groups by what their pods request.
func (t *Tree) UpdateQOS(burstableMilliCPU int64) error {
	defer t.done("update", time.Now())
	return t.apply(filepath.Join(t.pods(), burstable), Limits{CPUShares: sharesOf(burstableMilliCPU)})
}
