package configuration

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// The gates whose other setting has its effect.
const (
	gateQuotaPeriod      = "CustomCPUCFSQuotaPeriod"
	gateCrashMax         = "KubeletCrashLoopBackOffMax"
	gateCrashDecay       = "ReduceDefaultCrashLoopBackOffDecay"
	gateShutdown         = "GracefulNodeShutdown"
	gateShutdownPriority = "GracefulNodeShutdownBasedOnPodPriority"
	gateMaxImageAge      = "ImageMaximumGCAge"
	gateCPUOptions       = "CPUManagerPolicyOptions"
	gateCPUBeta          = "CPUManagerPolicyBetaOptions"
	gateCPUAlpha         = "CPUManagerPolicyAlphaOptions"
	gateTopologyOptions  = "TopologyManagerPolicyOptions"
	gateTopologyBeta     = "TopologyManagerPolicyBetaOptions"
	gateTopologyAlpha    = "TopologyManagerPolicyAlphaOptions"
	gateExclusiveQuota   = "DisableCPUQuotaWithExclusiveCPUs"
	gatePodResources     = "PodLevelResources"
	gatePodResize        = "InPlacePodLevelResourcesVerticalScaling"
	gateCRIStats         = "PodAndContainerStatsFromCRI"
	gateServingRotation  = "RotateKubeletServerCertificate"
)

var switchable = []string{
	gateQuotaPeriod, gateCrashMax, gateCrashDecay, gateShutdown, gateShutdownPriority, gateMaxImageAge,
	gateCPUOptions, gateCPUBeta, gateCPUAlpha, gateTopologyOptions, gateTopologyBeta, gateTopologyAlpha,
	gateExclusiveQuota, gatePodResources, gatePodResize,
}

// indifferent tells whether a gate's settings come to the same: what is told of pods and containers is the runtime's and the control groups' in any case,
// and a serving certificate that is read from a file is not the kubelet's to rotate.
func indifferent(c *kubeletconfig.KubeletConfiguration, name string) bool {
	return name == gateCRIStats || name == gateServingRotation && (!c.ServerTLSBootstrap || c.TLSCertFile != "")
}

// gateTable is made by test/conformance/gates from upstream's own.
//
//go:embed gates.txt
var gateTable string

// knownGate is a gate that there is: its default, and its stage as upstream calls it.
type knownGate struct {
	open  bool
	stage string
}

// knownGates returns the gates that there are.
var knownGates = sync.OnceValue(func() map[string]knownGate {
	out := map[string]knownGate{}
	for line := range strings.Lines(gateTable) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		text, stage, _ := strings.Cut(rest, " ")
		out[name] = knownGate{text == "true", stage}
	}
	return out
})

// gate tells whether a gate is open.
func gate(c *kubeletconfig.KubeletConfiguration, name string) bool {
	if value, ok := c.FeatureGates[name]; ok {
		return value
	}
	return knownGates()[name].open
}

// CrashWaits returns the first wait before a container that has exited is started again, and the longest.
func CrashWaits(c *kubeletconfig.KubeletConfiguration) (first, longest time.Duration) {
	first, longest = 10*time.Second, 5*time.Minute
	if gate(c, gateCrashDecay) {
		first, longest = time.Second, time.Minute
	}
	if most := c.CrashLoopBackOff.MaxContainerRestartPeriod; most != nil && gate(c, gateCrashMax) {
		longest = most.Duration
	}
	return min(first, longest), longest
}

// ExclusiveQuota tells whether a container that has CPUs for itself is held to its CPU limit like any other.
func ExclusiveQuota(c *kubeletconfig.KubeletConfiguration) bool { return !gate(c, gateExclusiveQuota) }

// PodLevelResources tells whether what a pod asks for as a whole counts, and PodLevelResize whether it may change while the pod runs.
func PodLevelResources(c *kubeletconfig.KubeletConfiguration) bool { return gate(c, gatePodResources) }

// PodLevelResize is told of at PodLevelResources.
func PodLevelResize(c *kubeletconfig.KubeletConfiguration) bool { return gate(c, gatePodResize) }

// checkGates accepts a gate that is as it is by default, one whose other setting has an effect, and one whose settings come to the same.
func checkGates(c *kubeletconfig.KubeletConfiguration) error {
	known := knownGates()
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		gate, ok := known[name]
		switch {
		case !ok:
			return fmt.Errorf("unrecognized feature gate: %s", name)
		case c.FeatureGates[name] != gate.open && !slices.Contains(switchable, name) && !indifferent(c, name):
			return fmt.Errorf("featureGates: %s can only be %s here", name, strconv.FormatBool(gate.open))
		}
	}
	if gate(c, gatePodResize) && !gate(c, gatePodResources) {
		return fmt.Errorf("%s is enabled, but depends on features that are disabled: [%s]", gatePodResize, gatePodResources)
	}
	return nil
}
