package cluster

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/resources/memory"
)

// kubeletFlag is a flag that sets a field of the kubelet's configuration. The names are upstream's.
type kubeletFlag struct {
	name, field string
	kind        string // of the value, for people
	read        func(text string) (any, error)
	joint       string // between values of a flag that may be repeated; "" lets the last one win
	normal      string // the default, for people
	usage       string
}

// kubeletFlags are the fields that have flags. Further nodes on a machine share them with the first.
var kubeletFlags = []kubeletFlag{
	{"node-taints", "registerWithTaints", "list", readTaints, ",", "", "taints of the node at registration: key=value:Effect"},
	{"pod-manifest-path", "staticPodPath", "folder", readText, "", "", "folder of static pods"},
	{"max-pods", "maxPods", "int", readNumber, "", "110", "how many pods the node takes"},
	{"pods-per-core", "podsPerCore", "int", readNumber, "", "", "how many pods the node takes for each of its CPUs, if that is fewer"},
	{"pod-max-pids", "podPidsLimit", "int", readNumber, "", "-1", "how many processes a pod may have; -1 is no bound"},
	{"allowed-unsafe-sysctls", "allowedUnsafeSysctls", "list", readList, ",", "", "sysctls that pods may set beyond the safe ones: names, or beginnings that end in *"},
	{"seccomp-default", "seccompDefault", "bool", readBool, "", "false", "make RuntimeDefault the seccomp profile of containers that name none"},
	{"fail-swap-on", "failSwapOn", "bool", readBool, "", "false", "refuse to start on a machine that swaps"},
	{"cgroup-root", "cgroupRoot", "group", readText, "", "", "control group below which the pods' lie (default: the cluster's own)"},

	{"eviction-hard", "evictionHard", "map", readPairs("<"), ",", "", "from when on the node evicts pods: signal<value, as memory.available<100Mi or imagefs.available<15% (default: Kubernetes')"},
	{"eviction-soft", "evictionSoft", "map", readPairs("<"), ",", "", "from when on it evicts pods unless that ends within a time: signal<value"},
	{"eviction-soft-grace-period", "evictionSoftGracePeriod", "map", readPairs("="), ",", "", "that time: signal=1m30s"},
	{"eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", "seconds", readNumber, "", "0", "how long a pod has to end then, at most"},
	{"eviction-minimum-reclaim", "evictionMinimumReclaim", "map", readPairs("="), ",", "", "how much more than a threshold is freed: signal=500Mi"},
	{"eviction-pressure-transition-period", "evictionPressureTransitionPeriod", "duration", readDuration, "", "5m0s", "how long a condition of pressure is kept after its cause has gone"},
	{"image-gc-high-threshold", "imageGCHighThresholdPercent", "percent", readNumber, "", "85", "how full the images' disk is when unused ones are removed"},
	{"image-gc-low-threshold", "imageGCLowThresholdPercent", "percent", readNumber, "", "80", "how full it is when that ends"},
	{"minimum-image-ttl-duration", "imageMinimumGCAge", "duration", readDuration, "", "2m0s", "how long an unused image is kept at least"},
	{"container-log-max-size", "containerLogMaxSize", "bytes", readText, "", "10Mi", "how long a container's log grows before it is rotated"},
	{"container-log-max-files", "containerLogMaxFiles", "int", readNumber, "", "5", "how many files a container's log has"},

	{"kube-reserved", "kubeReserved", "map", readPairs("="), ",", "", "what the node keeps for Kubernetes: cpu=200m,memory=500Mi,ephemeral-storage=1Gi"},
	{"system-reserved", "systemReserved", "map", readPairs("="), ",", "", "what the node keeps for the system: cpu=200m,memory=500Mi,ephemeral-storage=1Gi"},
	{"enforce-node-allocatable", "enforceNodeAllocatable", "list", readList, ",", "pods", "what is bounded by what the node keeps: pods, system-reserved, kube-reserved or none"},
	{"reserved-cpus", "reservedSystemCPUs", "cpus", readText, "", "", "CPUs that the node keeps, by their numbers: 0-1,8; they replace CPUs in --kube-reserved and --system-reserved"},
	{"reserved-memory", "reservedMemory", "list", readReservedMemory, ";", "", "from which NUMA node the node keeps memory, repeatedly: 0:memory=1Gi,hugepages-2Mi=64Mi"},
	{"cpu-manager-policy", "cpuManagerPolicy", "policy", readText, "", "none", "whether containers may have CPUs for themselves: none or static"},
	{"cpu-manager-policy-options", "cpuManagerPolicyOptions", "map", readPairs("="), ",", "", "options of that policy: full-pcpus-only=true,…"},
	{"cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", "duration", readDuration, "", "10s", "how often containers are put on their CPUs although nothing has changed"},
	{"memory-manager-policy", "memoryManagerPolicy", "policy", readText, "", "None", "whether containers get memory of chosen NUMA nodes: None or Static"},
	{"topology-manager-policy", "topologyManagerPolicy", "policy", readText, "", "none", "how strictly resources come from the same NUMA nodes: none, best-effort, restricted or single-numa-node"},
	{"topology-manager-scope", "topologyManagerScope", "scope", readText, "", "container", "for what resources come from the same NUMA nodes: container or pod"},
	{"topology-manager-policy-options", "topologyManagerPolicyOptions", "map", readPairs("="), ",", "", "options of that policy: prefer-closest-numa-nodes=true,…"},

	{"shutdown-grace-period", "shutdownGracePeriod", "duration", readDuration, "", "0s", "how long pods delay the machine's shutdown at most, which systemd-logind announces; 0s is not at all"},
	{"shutdown-grace-period-critical-pods", "shutdownGracePeriodCriticalPods", "duration", readDuration, "", "0s", "how much of that time is kept for critical pods, which end last"},
	{"shutdown-grace-period-by-pod-priority", "shutdownGracePeriodByPodPriority", "map", readShutdownPeriods, ",", "", "instead: how long pods have from each priority on, the lowest first: 0=60s,10000=20s"},
}

// kubeletFlagValue is a flag's value: it goes into the fields as it is given.
type kubeletFlagValue struct {
	*kubeletFlag
	fields map[string]any
	text   string
}

// Set implements pflag.Value.
func (v *kubeletFlagValue) Set(text string) error {
	if v.text != "" && v.joint != "" {
		text = v.text + v.joint + text
	}
	value, err := v.read(text)
	if err != nil {
		return err
	}
	v.text, v.fields[v.field] = text, value
	return nil
}

// String implements pflag.Value. It can be given to Set.
func (v *kubeletFlagValue) String() string {
	if v.kubeletFlag == nil || v.text != "" {
		return v.text
	}
	return v.normal
}

// Type implements pflag.Value.
func (v *kubeletFlagValue) Type() string { return v.kind }

// addKubeletFlags adds the flags, which write what they are given into fields.
func addKubeletFlags(f *pflag.FlagSet, fields map[string]any) {
	for i := range kubeletFlags {
		one := &kubeletFlags[i]
		flag := f.VarPF(&kubeletFlagValue{kubeletFlag: one, fields: fields}, one.name, "", one.usage)
		if one.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// KubeletFlags lists the flags that further nodes on a machine share with the first.
func KubeletFlags() []string {
	out := []string{"kubelet-config", "kubelet-config-dir", "root-dir"}
	for i := range kubeletFlags {
		out = append(out, kubeletFlags[i].name)
	}
	return out
}

func readText(text string) (any, error) { return text, nil }
func readBool(text string) (any, error) { return strconv.ParseBool(text) }
func readList(text string) (any, error) { return strings.Split(text, ","), nil }

func readNumber(text string) (any, error) { return strconv.ParseInt(text, 10, 64) }

func readDuration(text string) (any, error) {
	if _, err := time.ParseDuration(text); err != nil {
		return nil, err
	}
	return text, nil
}

// readPairs reads key<separator>value,…
func readPairs(separator string) func(string) (any, error) {
	return func(text string) (any, error) {
		out := map[string]any{}
		for _, pair := range strings.Split(text, ",") {
			key, value, ok := strings.Cut(pair, separator)
			if _, twice := out[key]; !ok || twice {
				return nil, fmt.Errorf("%q: write %s, each key once", pair, "key"+separator+"value")
			}
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		return out, nil
	}
}

// readTaints reads key=value:Effect and key:Effect.
func readTaints(text string) (any, error) {
	var out []corev1.Taint
	for _, one := range strings.Split(text, ",") {
		name, effect, ok := strings.Cut(one, ":")
		key, value, _ := strings.Cut(name, "=")
		switch e := corev1.TaintEffect(effect); {
		case !ok || key == "":
			return nil, fmt.Errorf("%q: write key=value:Effect", one)
		case e != corev1.TaintEffectNoSchedule && e != corev1.TaintEffectPreferNoSchedule && e != corev1.TaintEffectNoExecute:
			return nil, fmt.Errorf("%q: the effect is NoSchedule, PreferNoSchedule or NoExecute", one)
		default:
			out = append(out, corev1.Taint{Key: key, Value: value, Effect: e})
		}
	}
	return out, nil
}

func readReservedMemory(text string) (any, error) {
	var out []any
	for _, one := range strings.Split(text, ";") {
		r, err := memory.ParseReservation(one)
		if err != nil {
			return nil, err
		}
		out = append(out, map[string]any{"numaNode": r.Node, "limits": r.Limits})
	}
	return out, nil
}

func readShutdownPeriods(text string) (any, error) {
	var out []any
	for _, one := range strings.Split(text, ",") {
		priority, period, _ := strings.Cut(one, "=")
		from, err := strconv.ParseInt(priority, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q: %q is no priority", one, priority)
		}
		grace, err := time.ParseDuration(period)
		if err != nil || grace < 0 {
			return nil, fmt.Errorf("%q: use a time, as 30s", one)
		}
		out = append(out, map[string]any{"priority": from, "shutdownGracePeriodSeconds": int64(grace / time.Second)})
	}
	return out, nil
}
