package configuration

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/cpuset"
)

// What enforceNodeAllocatable lists.
const (
	EnforcePods                       = "pods"
	EnforceSystemReserved             = "system-reserved"
	EnforceSystemReservedCompressible = "system-reserved-compressible"
	EnforceKubeReserved               = "kube-reserved"
	EnforceKubeReservedCompressible   = "kube-reserved-compressible"
	EnforceNone                       = "none"
)

const defaultQuotaPeriod = 100 * time.Millisecond

// check finds what upstream finds wrong, in its words.
func check(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(checkGates(c), checkNumbers(c), checkPulls(c), checkPolicies(c), checkShutdown(c), checkEnforcement(c), checkReservations(c), checkLogs(c))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("invalid configuration: "+format, args...)
}

// checkNumbers looks at fields that have a range.
func checkNumbers(c *kubeletconfig.KubeletConfiguration) error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, invalid(format, args...))
		}
	}
	port := func(n int32, orNone bool) bool {
		return (n != 0 || !orNone) && validation.IsValidPortNum(int(n)) != nil
	}
	percent := func(n int32) bool { return n < 0 || n > 100 }
	high, low := *c.ImageGCHighThresholdPercent, *c.ImageGCLowThresholdPercent
	period := c.CPUCFSQuotaPeriod.Duration
	refuse(c.NodeLeaseDurationSeconds <= 0, "nodeLeaseDurationSeconds must be greater than 0")
	refuse(port(*c.HealthzPort, true), "healthzPort (--healthz-port) %v must be between 1 and 65535, inclusive", *c.HealthzPort)
	refuse(port(c.Port, false), "port (--port) %v must be between 1 and 65535, inclusive", c.Port)
	refuse(port(c.ReadOnlyPort, true), "readOnlyPort (--read-only-port) %v must be between 0 and 65535, inclusive", c.ReadOnlyPort)
	refuse(!gate(c, gateQuotaPeriod) && period != defaultQuotaPeriod, "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) %v requires feature gate CustomCPUCFSQuotaPeriod", *c.CPUCFSQuotaPeriod)
	refuse(period < time.Millisecond || period > time.Second, "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) %v must be between 1ms and 1sec, inclusive", *c.CPUCFSQuotaPeriod)
	refuse(percent(high), "imageGCHighThresholdPercent (--image-gc-high-threshold) %v must be between 0 and 100, inclusive", high)
	refuse(percent(low), "imageGCLowThresholdPercent (--image-gc-low-threshold) %v must be between 0 and 100, inclusive", low)
	refuse(low >= high, "imageGCLowThresholdPercent (--image-gc-low-threshold) %v must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) %v", low, high)
	youngest, oldest := c.ImageMinimumGCAge.Duration, c.ImageMaximumGCAge.Duration
	refuse(oldest != 0 && !gate(c, gateMaxImageAge), "ImageMaximumGCAge feature gate is required for Kubelet configuration option imageMaximumGCAge")
	refuse(youngest < 0, "imageMinimumGCAge %v must not be negative", youngest)
	refuse(oldest < 0, "imageMaximumGCAge %v must not be negative", oldest)
	refuse(oldest > 0 && oldest <= youngest, "imageMaximumGCAge %v must be greater than imageMinimumGCAge %v", oldest, youngest)
	refuse(*c.NodeStatusMaxImages < -1, "nodeStatusMaxImages (--node-status-max-images) %v must be -1 or greater", *c.NodeStatusMaxImages)
	refuse(c.MaxOpenFiles < 0, "maxOpenFiles (--max-open-files) %v must not be a negative number", c.MaxOpenFiles)
	refuse(c.MaxPods < 0, "maxPods (--max-pods) %v must not be a negative number", c.MaxPods)
	refuse(c.PodsPerCore < 0, "podsPerCore (--pods-per-core) %v must not be a negative number", c.PodsPerCore)
	refuse(*c.OOMScoreAdj < -1000 || *c.OOMScoreAdj > 1000, "oomScoreAdj (--oom-score-adj) %v must be between -1000 and 1000, inclusive", *c.OOMScoreAdj)
	refuse(c.CPUManagerReconcilePeriod.Duration < 0, "cpuManagerReconcilePeriod (--cpu-manager-reconcile-period) %v must not be negative", c.CPUManagerReconcilePeriod)
	refuse(c.EvictionMaxPodGracePeriod < 0, "evictionMaxPodGracePeriod (--eviction-max-pod-grace-period) %v must not be a negative number", c.EvictionMaxPodGracePeriod)
	crash := c.CrashLoopBackOff.MaxContainerRestartPeriod
	refuse(crash != nil && !gate(c, gateCrashMax), "FeatureGate KubeletCrashLoopBackOffMax not enabled, CrashLoopBackOff.MaxContainerRestartPeriod must not be set")
	refuse(crash != nil && (crash.Duration < time.Second || crash.Duration > 300*time.Second), "CrashLoopBackOff.MaxContainerRestartPeriod (got: %v seconds) must be set between 1s and 300s", crash)
	refuse(c.RunOnce, "runOnce (--runOnce) %v, Runonce mode has been deprecated and should not be set", c.RunOnce)
	return errors.Join(errs...)
}

func checkPulls(c *kubeletconfig.KubeletConfiguration) error {
	if n := c.MaxParallelImagePulls; n != nil {
		if *n < 1 {
			return invalid("maxParallelImagePulls %v must be a positive number", *n)
		}
		if *c.SerializeImagePulls && *n > 1 {
			return invalid("maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false")
		}
	}
	return nil
}

// checkPolicies looks at fields that have a list of values. The managers themselves check the names of their policies' options.
func checkPolicies(c *kubeletconfig.KubeletConfiguration) error {
	policies := []string{kubeletconfig.NoneTopologyManagerPolicy, kubeletconfig.BestEffortTopologyManagerPolicy, kubeletconfig.RestrictedTopologyManagerPolicy, kubeletconfig.SingleNumaNodeTopologyManagerPolicy}
	if !slices.Contains(policies, c.TopologyManagerPolicy) {
		return invalid("topologyManagerPolicy (--topology-manager-policy) %q must be one of: %q", c.TopologyManagerPolicy, policies)
	}
	if c.TopologyManagerScope != kubeletconfig.ContainerTopologyManagerScope && c.TopologyManagerScope != kubeletconfig.PodTopologyManagerScope {
		return invalid("topologyManagerScope (--topology-manager-scope) %q must be one of: %q, or %q", c.TopologyManagerScope, kubeletconfig.ContainerTopologyManagerScope, kubeletconfig.PodTopologyManagerScope)
	}
	modes := []string{kubeletconfig.HairpinNone, kubeletconfig.HairpinVeth, kubeletconfig.PromiscuousBridge}
	if !slices.Contains(modes, c.HairpinMode) {
		return invalid("option %q specified for hairpinMode (--hairpin-mode). Valid options are %q, %q or %q", c.HairpinMode, modes[0], modes[1], modes[2])
	}
	if len(c.CPUManagerPolicyOptions) > 0 && !gate(c, gateCPUOptions) {
		return invalid("cpuManagerPolicyOptions requires feature gate %s", gateCPUOptions)
	}
	if len(c.TopologyManagerPolicyOptions) > 0 && !gate(c, gateTopologyOptions) {
		return invalid("topologyManagerPolicyOptions requires feature gate %s", gateTopologyOptions)
	}
	for name := range c.CPUManagerPolicyOptions {
		if slices.Contains([]string{"align-by-socket", "distribute-cpus-across-cores"}, name) && !gate(c, gateCPUAlpha) {
			return fmt.Errorf("CPU Manager Policy Alpha-level Options not enabled, but option %q provided", name) //nolint:staticcheck // upstream's text
		}
		if name == "distribute-cpus-across-numa" && !gate(c, gateCPUBeta) {
			return fmt.Errorf("CPU Manager Policy Beta-level Options not enabled, but option %q provided", name) //nolint:staticcheck // upstream's text
		}
	}
	return nil
}

func checkShutdown(c *kubeletconfig.KubeletConfiguration) error {
	whole, critical := c.ShutdownGracePeriod.Duration, c.ShutdownGracePeriodCriticalPods.Duration
	short := func(d time.Duration) bool { return d < 0 || d > 0 && d < time.Second }
	switch {
	case critical > whole:
		return invalid("shutdownGracePeriodCriticalPods %v must be <= shutdownGracePeriod %v", c.ShutdownGracePeriodCriticalPods, c.ShutdownGracePeriod)
	case short(whole):
		return invalid("shutdownGracePeriod %v must be either zero or otherwise >= 1 sec", c.ShutdownGracePeriod)
	case short(critical):
		return invalid("shutdownGracePeriodCriticalPods %v must be either zero or otherwise >= 1 sec", c.ShutdownGracePeriodCriticalPods)
	case whole > 0 && !gate(c, gateShutdown):
		return invalid("specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate GracefulNodeShutdown")
	case len(c.ShutdownGracePeriodByPodPriority) == 0:
		return nil
	case !gate(c, gateShutdownPriority):
		return invalid("Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority")
	case whole > 0:
		return invalid("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
	}
	for _, p := range c.ShutdownGracePeriodByPodPriority {
		if p.ShutdownGracePeriodSeconds < 0 {
			return invalid("shutdownGracePeriodByPodPriority: %d seconds of priority %d must not be a negative number", p.ShutdownGracePeriodSeconds, p.Priority)
		}
	}
	return nil
}

func checkEnforcement(c *kubeletconfig.KubeletConfiguration) error {
	all := c.EnforceNodeAllocatable
	has := func(name string) bool { return slices.Contains(all, name) }
	for _, pair := range [][2]string{{EnforceSystemReservedCompressible, EnforceSystemReserved}, {EnforceKubeReservedCompressible, EnforceKubeReserved}} {
		if has(pair[0]) && has(pair[1]) {
			return invalid("both %q and %q cannot be specified together in enforceNodeAllocatable (--enforce-node-allocatable)", pair[0], pair[1])
		}
	}
	for i, name := range all {
		if slices.Contains(all[:i], name) {
			return invalid("duplicated enforcements %q in enforceNodeAllocatable (--enforce-node-allocatable)", name)
		}
		switch name {
		case EnforcePods:
		case EnforceSystemReserved, EnforceSystemReservedCompressible:
			if c.SystemReservedCgroup == "" {
				return invalid("systemReservedCgroup (--system-reserved-cgroup) must be specified when %q or %q included in enforceNodeAllocatable (--enforce-node-allocatable)", EnforceSystemReserved, EnforceSystemReservedCompressible)
			}
		case EnforceKubeReserved, EnforceKubeReservedCompressible:
			if c.KubeReservedCgroup == "" {
				return invalid("kubeReservedCgroup (--kube-reserved-cgroup) must be specified when %q or %q included in enforceNodeAllocatable (--enforce-node-allocatable)", EnforceKubeReserved, EnforceKubeReservedCompressible)
			}
		case EnforceNone:
			if len(all) > 1 {
				return invalid("enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when %q is specified", EnforceNone)
			}
		default:
			return invalid("option %q specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are %q, %q, %q, %q, %q or %q",
				name, EnforcePods, EnforceSystemReserved, EnforceSystemReservedCompressible, EnforceKubeReserved, EnforceKubeReservedCompressible, EnforceNone)
		}
	}
	return nil
}

func checkReservations(c *kubeletconfig.KubeletConfiguration) error {
	if c.ReservedSystemCPUs != "" {
		if c.SystemReservedCgroup != "" || c.KubeReservedCgroup != "" {
			return invalid("can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)")
		}
		if _, err := cpuset.Parse(c.ReservedSystemCPUs); err != nil {
			return invalid("unable to parse reservedSystemCPUs (--reserved-cpus) %v, error: %w", c.ReservedSystemCPUs, err)
		}
	}
	type key struct {
		node int32
		name string
	}
	seen := map[key]bool{}
	for _, r := range c.ReservedMemory {
		for name, q := range r.Limits {
			k := key{r.NumaNode, string(name)}
			if q.IsZero() {
				return invalid("reserved memory may not be zero for NUMA node %d and resource %q", k.node, k.name)
			}
			if seen[k] {
				return invalid("the reserved memory has a duplicate value for NUMA node %d and resource %q", k.node, k.name)
			}
			seen[k] = true
		}
	}
	return nil
}

func checkLogs(c *kubeletconfig.KubeletConfiguration) error {
	switch {
	case *c.ContainerLogMaxWorkers < 1:
		return invalid("containerLogMaxWorkers must be greater than or equal to 1")
	case c.ContainerLogMonitorInterval.Duration < 3*time.Second:
		return invalid("containerLogMonitorInterval must be a positive time duration greater than or equal to 3s")
	case *c.ContainerLogMaxFiles <= 1:
		return invalid("containerLogMaxFiles must be greater than 1")
	case !filepath.IsAbs(c.PodLogsDir):
		return invalid("pod logs path %q must be absolute path", c.PodLogsDir)
	case filepath.Clean(c.PodLogsDir) != c.PodLogsDir:
		return invalid("pod logs path %q must be normalized", c.PodLogsDir)
	}
	return nil
}
