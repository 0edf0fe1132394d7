package configuration

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// setDefaults fills in what nobody has given. The values are upstream's, except for what would keep a cluster from starting on an ordinary machine or is
// done in another way: swap and cgroup version 1 are no errors, five images are pulled at once, certificates always renew themselves, no
// plain port listens, events and requests to the API have no limit on the client's side, and nothing is in iptables.
func setDefaults(c *kubeletconfig.KubeletConfiguration) {
	defaultTimes(c)
	defaultAccess(c)
	defaultImages(c)
	defaultResources(c)
	defaultEviction(c)

	set(&c.EnableServer, true)
	set(&c.EnableDebuggingHandlers, true)
	set(&c.EnableSystemLogHandler, true)
	set(&c.EnableProfilingHandler, true)
	set(&c.EnableDebugFlagsHandler, false)
	set(&c.EnableControllerAttachDetach, true)
	set(&c.MakeIPTablesUtilChains, false)
	set(&c.RegisterNode, true)
	set(&c.LocalStorageCapacityIsolation, true)
	set(&c.SeccompDefault, false)
	set(&c.FailSwapOn, false)
	set(&c.FailCgroupV1, false)
	set(&c.HealthzPort, 0)
	set(&c.OOMScoreAdj, -999)
	set(&c.NodeStatusMaxImages, 50)
	set(&c.ContainerLogMaxFiles, 5)
	set(&c.ContainerLogMaxWorkers, 1)
	set(&c.IPTablesMasqueradeBit, 14)
	set(&c.IPTablesDropBit, 15)
	set(&c.EventRecordQPS, 0)
	set(&c.KubeAPIQPS, 0)
	set(&c.ResolverConfig, "/etc/resolv.conf")
	c.Address = cmp.Or(c.Address, "0.0.0.0")
	c.HealthzBindAddress = cmp.Or(c.HealthzBindAddress, "127.0.0.1")
	c.MaxPods = cmp.Or(c.MaxPods, 110)
	c.MaxOpenFiles = cmp.Or(c.MaxOpenFiles, 1000000)
	c.HairpinMode = cmp.Or(c.HairpinMode, kubeletconfig.PromiscuousBridge)
	c.ContentType = cmp.Or(c.ContentType, "application/vnd.kubernetes.protobuf")
	c.ContainerLogMaxSize = cmp.Or(c.ContainerLogMaxSize, "10Mi")
	c.ConfigMapAndSecretChangeDetectionStrategy = cmp.Or(c.ConfigMapAndSecretChangeDetectionStrategy, kubeletconfig.WatchChangeDetectionStrategy)
	c.VolumePluginDir = cmp.Or(c.VolumePluginDir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")
	if c.PodPidsLimit == nil || *c.PodPidsLimit < 0 {
		c.PodPidsLimit = new(int64(-1))
	}
	if c.CrashLoopBackOff.MaxContainerRestartPeriod == nil && gate(c, gateCrashMax) {
		c.CrashLoopBackOff.MaxContainerRestartPeriod = &metav1.Duration{Duration: 5 * time.Minute}
	}
	c.RotateCertificates, c.ServerTLSBootstrap = true, c.ServerTLSBootstrap || c.TLSCertFile == ""
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
}

func set[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func setTime(d *metav1.Duration, value time.Duration) { d.Duration = cmp.Or(d.Duration, value) }

func defaultTimes(c *kubeletconfig.KubeletConfiguration) {
	setTime(&c.SyncFrequency, time.Minute)
	setTime(&c.FileCheckFrequency, 20*time.Second)
	setTime(&c.HTTPCheckFrequency, 20*time.Second)
	setTime(&c.StreamingConnectionIdleTimeout, 4*time.Hour)
	if c.NodeStatusUpdateFrequency.Duration != 0 {
		setTime(&c.NodeStatusReportFrequency, c.NodeStatusUpdateFrequency.Duration)
	}
	setTime(&c.NodeStatusReportFrequency, 5*time.Minute)
	setTime(&c.NodeStatusUpdateFrequency, 10*time.Second)
	c.NodeLeaseDurationSeconds = cmp.Or(c.NodeLeaseDurationSeconds, 40)
	setTime(&c.VolumeStatsAggPeriod, time.Minute)
	setTime(&c.RuntimeRequestTimeout, 2*time.Minute)
	set(&c.ContainerLogMonitorInterval, metav1.Duration{Duration: 10 * time.Second})
}

func defaultAccess(c *kubeletconfig.KubeletConfiguration) {
	set(&c.Authentication.Anonymous.Enabled, false)
	set(&c.Authentication.Webhook.Enabled, true)
	setTime(&c.Authentication.Webhook.CacheTTL, 2*time.Minute)
	c.Authorization.Mode = cmp.Or(c.Authorization.Mode, kubeletconfig.KubeletAuthorizationModeWebhook)
	setTime(&c.Authorization.Webhook.CacheAuthorizedTTL, 5*time.Minute)
	setTime(&c.Authorization.Webhook.CacheUnauthorizedTTL, 30*time.Second)
}

func defaultImages(c *kubeletconfig.KubeletConfiguration) {
	set(&c.RegistryPullQPS, 0)
	setTime(&c.ImageMinimumGCAge, 2*time.Minute)
	set(&c.ImageGCHighThresholdPercent, 85)
	set(&c.ImageGCLowThresholdPercent, 80)
	switch {
	case c.MaxParallelImagePulls != nil:
		set(&c.SerializeImagePulls, *c.MaxParallelImagePulls < 2)
	case c.SerializeImagePulls == nil || !*c.SerializeImagePulls:
		c.SerializeImagePulls, c.MaxParallelImagePulls = new(false), new(int32(5))
	}
	c.ImagePullCredentialsVerificationPolicy = cmp.Or(c.ImagePullCredentialsVerificationPolicy, kubeletconfig.NeverVerifyPreloadedImages)
}

func defaultResources(c *kubeletconfig.KubeletConfiguration) {
	set(&c.CgroupsPerQOS, true)
	c.CgroupDriver = cmp.Or(c.CgroupDriver, "cgroupfs")
	c.CPUManagerPolicy = cmp.Or(c.CPUManagerPolicy, "none")
	setTime(&c.CPUManagerReconcilePeriod, 10*time.Second)
	c.MemoryManagerPolicy = cmp.Or(c.MemoryManagerPolicy, kubeletconfig.NoneMemoryManagerPolicy)
	c.TopologyManagerPolicy = cmp.Or(c.TopologyManagerPolicy, kubeletconfig.NoneTopologyManagerPolicy)
	c.TopologyManagerScope = cmp.Or(c.TopologyManagerScope, kubeletconfig.ContainerTopologyManagerScope)
	set(&c.CPUCFSQuota, true)
	set(&c.CPUCFSQuotaPeriod, metav1.Duration{Duration: defaultQuotaPeriod})
	set(&c.MemoryThrottlingFactor, 0.9)
	c.MemoryReservationPolicy = cmp.Or(c.MemoryReservationPolicy, kubeletconfig.NoneMemoryReservationPolicy)
	if c.EnforceNodeAllocatable == nil {
		c.EnforceNodeAllocatable = []string{EnforcePods}
	}
}

// defaultEvictionHard are the thresholds of a node that names none.
var defaultEvictionHard = map[string]string{
	"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
}

func defaultEviction(c *kubeletconfig.KubeletConfiguration) {
	setTime(&c.EvictionPressureTransitionPeriod, 5*time.Minute)
	set(&c.MergeDefaultEvictionSettings, false)
	if c.EvictionHard != nil && !*c.MergeDefaultEvictionSettings {
		return
	}
	if c.EvictionHard == nil {
		c.EvictionHard = map[string]string{}
	}
	for signal, value := range defaultEvictionHard {
		if _, ok := c.EvictionHard[signal]; !ok {
			c.EvictionHard[signal] = value
		}
	}
}
