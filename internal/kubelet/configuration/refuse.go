package configuration

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// refused finds fields that ask for what isn't done here, and says why.
func (g Given) refused(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(refuseServing(c), g.refuseAlways(), refuseGroups(c), refusePods(c), refuseClient(c), refuseElsewhere(c))
}

// only refuses a field that isn't what it can only be.
func only[T comparable](field string, is, can T, why string) error {
	if is == can {
		return nil
	}
	if reflect.ValueOf(can).IsZero() {
		return fmt.Errorf("%s: %s", field, why)
	}
	return fmt.Errorf("%s %v: it can only be %v, for %s", field, is, can, why)
}

// refuseAlways looks at what is always so, and was asked not to be.
func (g Given) refuseAlways() error {
	for field, why := range map[string]string{
		"rotateCertificates": "a node's client certificate always renews itself",
	} {
		if g.has(field) && g[field] != true {
			return fmt.Errorf("%s %v: %s", field, g[field], why)
		}
	}
	if g.has("serverTLSBootstrap") && g["serverTLSBootstrap"] != true && !g.has("tlsCertFile") {
		return errors.New("serverTLSBootstrap false: a node's serving certificate is the cluster's unless tlsCertFile names another")
	}
	return nil
}

func refuseServing(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(
		only("staticPodURL", c.StaticPodURL, "", "static pods come from a folder alone: use staticPodPath"),
		only("staticPodURLHeader", len(c.StaticPodURLHeader), 0, "static pods come from a folder alone: use staticPodPath"),
		only("streamingConnectionIdleTimeout", c.StreamingConnectionIdleTimeout.Duration, 4*time.Hour, "the runtime ends streams by itself"),
		only("enableSystemLogQuery", c.EnableSystemLogQuery == nil || !*c.EnableSystemLogQuery, true, "there is no query of the system's logs"),
		only("enableDebugFlagsHandler", *c.EnableDebugFlagsHandler, false, "the level of logging is --log-level's"),
		only("showHiddenMetricsForVersion", c.ShowHiddenMetricsForVersion, "", "no metrics are hidden"),
		only("tracing", c.Tracing == nil, true, "no traces are sent"),
		refuseLogging(c),
	)
}

func refuseLogging(c *kubeletconfig.KubeletConfiguration) error {
	var normal logsapi.LoggingConfiguration
	logsapi.SetRecommendedLoggingConfiguration(&normal)
	if apiequality.Semantic.DeepEqual(c.Logging, normal) {
		return nil
	}
	return errors.New("logging: the log is the whole process' own: use --log-level")
}

func refuseGroups(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(
		only("cgroupsPerQOS", *c.CgroupsPerQOS, true, "pods always lie in groups by their quality of service"),
		only("cgroupDriver", c.CgroupDriver, "cgroupfs", "control groups are made without systemd"),
		only("kubeletCgroups", c.KubeletCgroups, "", "the process stays in the control group in which it was started"),
		only("systemCgroups", c.SystemCgroups, "", "processes that Clipper didn't start stay where they are"),
		only("qosReserved", len(c.QOSReserved), 0, "its feature gate QOSReserved can't be opened here"),
		only("memoryThrottlingFactor", *c.MemoryThrottlingFactor, 0.9, "its feature gate MemoryQoS can't be opened here"),
		only("memoryReservationPolicy", c.MemoryReservationPolicy, kubeletconfig.NoneMemoryReservationPolicy, "its feature gate MemoryQoS can't be opened here"),
		only("kernelMemcgNotification", c.KernelMemcgNotification, false, "memory is looked at every ten seconds"),
		only("localStorageCapacityIsolation", *c.LocalStorageCapacityIsolation, true, "limits on local storage always hold"),
		refuseSwap(c),
	)
}

func refuseSwap(c *kubeletconfig.KubeletConfiguration) error {
	switch c.MemorySwap.SwapBehavior {
	case "", "NoSwap":
		return nil
	case "LimitedSwap":
		return errors.New("memorySwap.swapBehavior LimitedSwap: pods get no swap here, use NoSwap")
	}
	return invalid("memorySwap.swapBehavior %q must be one of: \"\", %q or %q", c.MemorySwap.SwapBehavior, "LimitedSwap", "NoSwap")
}

func refusePods(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(
		only("syncFrequency", c.SyncFrequency.Duration, time.Minute, "pods are brought up to date by events, not at intervals"),
		only("volumeStatsAggPeriod", c.VolumeStatsAggPeriod.Duration, time.Minute, "volumes are measured when somebody asks"),
		only("configMapAndSecretChangeDetectionStrategy", c.ConfigMapAndSecretChangeDetectionStrategy, kubeletconfig.WatchChangeDetectionStrategy, "changes of objects are watched"),
		only("enableControllerAttachDetach", *c.EnableControllerAttachDetach, true, "volumes are attached by the controller"),
		only("volumePluginDir", c.VolumePluginDir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/", "there are no FlexVolumes"),
		only("podCIDR", c.PodCIDR, "", "the node's range comes from its Node object"),
		only("makeIPTablesUtilChains", *c.MakeIPTablesUtilChains, false, "services are in nftables"),
		only("iptablesMasqueradeBit", *c.IPTablesMasqueradeBit, 14, "services are in nftables"),
		only("iptablesDropBit", *c.IPTablesDropBit, 15, "services are in nftables"),
		only("maxOpenFiles", c.MaxOpenFiles, 1000000, "the process opens as many files as the machine lets it"),
		only("protectKernelDefaults", c.ProtectKernelDefaults, false, "no kernel setting is changed"),
	)
}

func refuseClient(c *kubeletconfig.KubeletConfiguration) error {
	return errors.Join(
		only("registerNode", *c.RegisterNode, true, "a node always registers itself"),
		only("contentType", c.ContentType, "application/vnd.kubernetes.protobuf", "the API is spoken to in protobuf"),
		only("kubeAPIQPS", *c.KubeAPIQPS, 0, "requests to the API are limited by the server's priority and fairness"),
		only("kubeAPIBurst", c.KubeAPIBurst, 0, "requests to the API are limited by the server's priority and fairness"),
		only("eventRecordQPS", *c.EventRecordQPS, 0, "events are limited for each object, 25 and one more every five minutes"),
		only("eventBurst", c.EventBurst, 0, "events are limited for each object, 25 and one more every five minutes"),
	)
}

// refuseElsewhere looks at what the whole node has, and the kubelet alone can't change.
func refuseElsewhere(c *kubeletconfig.KubeletConfiguration) error {
	if c.ImageServiceEndpoint != "" && c.ImageServiceEndpoint != c.ContainerRuntimeEndpoint {
		return errors.New("imageServiceEndpoint: images come from the container runtime's own service")
	}
	return nil
}
