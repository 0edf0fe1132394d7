// Package admission decides whether a pod that was bound to a node may run there.
//
//	refusal := admission.Check(admission.Input{Pod: pod, Node: node, Others: running, …})
//
// The scheduler has judged already; the node judges again, since two schedulers may have bound at once, or somebody has set the node's name by
// hand. The pod, the node and the pods that run flow in, nil or a refusal with upstream's reason and message flows out.
package admission

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/preemption"
)

// Refusal is why a pod may not run.
type Refusal struct {
	Reason, Message string
	// Lacking is all that the node has too little of, where that is the reason.
	Lacking []preemption.Lack
}

// Input is what a decision rests on. Read-only.
type Input struct {
	Pod  *corev1.Pod
	Node *corev1.Node
	// Others are the pods that hold resources of the node.
	Others      []*corev1.Pod
	Allocatable corev1.ResourceList
	// Allocate gives the pod what has a place on the node, CPUs, memory and devices, before anything is counted; it returns what the node can give then.
	// nil is that nothing has one.
	Allocate func() (corev1.ResourceList, *Refusal)
	// MemoryPressure, DiskPressure and PIDPressure tell what the node lacks.
	MemoryPressure, DiskPressure, PIDPressure bool
	// UnsafeSysctls are allowed beyond the safe ones.
	UnsafeSysctls []string
	// AppArmor tells whether the kernel enforces it.
	AppArmor bool
	// GroupsPolicy tells whether the runtime knows supplementalGroupsPolicy.
	GroupsPolicy bool
}

// logger takes what the library's functions would log: nothing.
var logger klog.Logger

// Check returns nil when the pod may run.
func Check(in Input) *Refusal {
	for _, check := range []func(*Input) *Refusal{checkPressure, checkSysctls, allocate, checkOS, checkGroups, checkAppArmor, checkPlacement, checkResources} {
		if r := check(&in); r != nil {
			return r
		}
	}
	return nil
}

// allocate has the node's managers decide.
func allocate(in *Input) (refusal *Refusal) {
	if in.Allocate != nil {
		in.Allocatable, refusal = in.Allocate()
	}
	return refusal
}

func checkPressure(in *Input) *Refusal {
	if preemption.Critical(in.Pod) {
		return nil
	}
	if in.MemoryPressure && !in.DiskPressure && !in.PIDPressure {
		tolerated := schedulinghelper.TolerationsTolerateTaint(logger, in.Pod.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}, true)
		if lifecycle.QOS(in.Pod) != corev1.PodQOSBestEffort || tolerated {
			return nil
		}
	}
	var conditions []string
	for name, on := range map[corev1.NodeConditionType]bool{corev1.NodeMemoryPressure: in.MemoryPressure, corev1.NodeDiskPressure: in.DiskPressure, corev1.NodePIDPressure: in.PIDPressure} {
		if on {
			conditions = append(conditions, string(name))
		}
	}
	if len(conditions) == 0 {
		return nil
	}
	slices.Sort(conditions)
	return &Refusal{Reason: "Evicted", Message: fmt.Sprintf("The node had condition: %v. ", conditions)}
}

// safeSysctls are those that concern one pod alone, with the namespace that they live in.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

func checkSysctls(in *Input) *Refusal {
	if in.Pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range in.Pod.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		problem := ""
		switch {
		case !slices.Contains(safeSysctls, name) && !allowed(name, in.UnsafeSysctls):
			problem = fmt.Sprintf("%q not allowlisted", name)
		case strings.HasPrefix(name, "net.") && in.Pod.Spec.HostNetwork:
			problem = fmt.Sprintf("%q not allowed with host %s enabled", name, "net")
		case !strings.HasPrefix(name, "net.") && in.Pod.Spec.HostIPC:
			problem = fmt.Sprintf("%q not allowed with host %s enabled", name, "ipc")
		}
		if problem != "" {
			return &Refusal{Reason: "SysctlForbidden", Message: "forbidden sysctl: " + problem}
		}
	}
	return nil
}

func allowed(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return name == p
	})
}

func checkOS(in *Input) *Refusal {
	if label, ok := in.Pod.Labels[corev1.LabelOSStable]; ok && label != runtime.GOOS {
		return &Refusal{Reason: "PodOSSelectorNodeLabelDoesNotMatch", Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if os := in.Pod.Spec.OS; os != nil && string(os.Name) != runtime.GOOS {
		return &Refusal{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}

func checkGroups(in *Input) *Refusal {
	sc := in.Pod.Spec.SecurityContext
	if sc == nil || sc.SupplementalGroupsPolicy == nil || *sc.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyStrict || in.GroupsPolicy {
		return nil
	}
	return &Refusal{Reason: "SupplementalGroupsPolicyNotSupported", Message: "SupplementalGroupsPolicy=Strict is not supported in this node"}
}

func checkAppArmor(in *Input) *Refusal {
	if in.AppArmor {
		return nil
	}
	asks := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	wanted := in.Pod.Spec.SecurityContext != nil && asks(in.Pod.Spec.SecurityContext.AppArmorProfile)
	for _, list := range [][]corev1.Container{in.Pod.Spec.InitContainers, in.Pod.Spec.Containers} {
		for i := range list {
			wanted = wanted || list[i].SecurityContext != nil && asks(list[i].SecurityContext.AppArmorProfile)
		}
	}
	if !wanted {
		return nil
	}
	return &Refusal{Reason: "AppArmor", Message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func predicate(name, problem string) *Refusal {
	return &Refusal{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, problem)}
}

func checkPlacement(in *Input) *Refusal {
	if in.Node == nil {
		return nil
	}
	if name := in.Pod.Spec.NodeName; name != "" && name != in.Node.Name {
		return predicate("NodeName", "node(s) didn't match the requested node name")
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(in.Pod).Match(in.Node); err != nil || !ok {
		return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	if hostPortTaken(in) {
		return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
	}
	if !lifecycle.IsStatic(in.Pod) {
		if taint, bad := schedulinghelper.FindMatchingUntoleratedTaint(logger, in.Node.Spec.Taints, in.Pod.Spec.Tolerations, func(t *corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }, true); bad {
			return predicate("TaintToleration", fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value))
		}
	}
	return nil
}

type hostPort struct {
	protocol corev1.Protocol
	port     int32
}

func hostPortTaken(in *Input) bool {
	mine := hostPorts(in.Pod)
	for _, other := range in.Others {
		for p, ips := range hostPorts(other) {
			for _, a := range mine[p] {
				for _, b := range ips {
					if a == b || a == anyIP || b == anyIP {
						return true
					}
				}
			}
		}
	}
	return false
}

const anyIP = "0.0.0.0"

// hostPorts lists the ports of the node that a pod takes, with the addresses.
func hostPorts(pod *corev1.Pod) map[hostPort][]string {
	out := map[hostPort][]string{}
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ip := p.HostIP
				if ip == "" {
					ip = anyIP
				}
				k := hostPort{p.Protocol, p.HostPort}
				out[k] = append(out[k], ip)
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; lifecycle.IsSidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

func checkResources(in *Input) (refusal *Refusal) {
	refuse := func(name corev1.ResourceName, requested, used, capacity int64) {
		if refusal == nil {
			refusal = insufficient(name, requested, used, capacity)
		}
		refusal.Lacking = append(refusal.Lacking, preemption.Lack{Resource: name, Amount: requested - (capacity - used)})
	}
	pods := in.Allocatable[corev1.ResourcePods]
	if int64(len(in.Others)+1) > pods.Value() {
		refuse(corev1.ResourcePods, 1, int64(len(in.Others)), pods.Value())
	}
	requests := resourcehelper.PodRequests(in.Pod, resourcehelper.PodResourcesOptions{})
	names := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	for name := range requests {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names[3:])
	for _, name := range names {
		want, ok := requests[name]
		if !ok || want.IsZero() {
			continue
		}
		free, known := in.Allocatable[name]
		if !known && !slices.Contains(names[:3], name) {
			continue // an extended resource that no plugin of this node offers is the scheduler's affair
		}
		var used resource.Quantity
		for _, other := range in.Others {
			used.Add(resourcehelper.PodRequests(other, resourcehelper.PodResourcesOptions{})[name])
		}
		if amount(name, want)+amount(name, used) > amount(name, free) {
			refuse(name, amount(name, want), amount(name, used), amount(name, free))
		}
	}
	return refusal
}

// amount is a quantity in the unit that messages use: thousandths for CPU.
func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

func insufficient(name corev1.ResourceName, requested, used, capacity int64) *Refusal {
	return &Refusal{Reason: "OutOf" + string(name), Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}
