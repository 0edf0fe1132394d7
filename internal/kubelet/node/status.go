package node

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setStatus writes into a status all that the kubelet owns of it.
func (m *Manager) setStatus(s *corev1.NodeStatus, health Health, images []corev1.ContainerImage, now time.Time) {
	s.Addresses = nil
	for _, ip := range m.cfg.Addresses {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: m.cfg.Name})
	s.Capacity = overlay(s.Capacity, m.cfg.Capacity)
	s.Allocatable = overlay(s.Allocatable, m.cfg.Allocatable)
	for _, name := range m.outdated {
		s.Capacity[name], s.Allocatable[name] = *resource.NewQuantity(0, resource.DecimalSI), *resource.NewQuantity(0, resource.DecimalSI)
	}
	if capacity, allocatable := m.cfg.Plugins(); len(capacity) > 0 {
		s.Capacity, s.Allocatable = overlay(s.Capacity, capacity), overlay(s.Allocatable, allocatable)
	}
	s.DaemonEndpoints.KubeletEndpoint.Port = m.cfg.Port
	s.NodeInfo = m.cfg.Machine.Info
	s.NodeInfo.ContainerRuntimeVersion = health.Version
	s.NodeInfo.KubeletVersion = m.cfg.Version
	s.Images = images
	s.VolumesInUse = m.cfg.InUse()
	s.RuntimeHandlers = health.Handlers
	s.Features = health.Features
	p := m.cfg.Pressure()
	set(s, pressure(corev1.NodeMemoryPressure, p.Memory, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
		"KubeletHasSufficientMemory", "kubelet has sufficient memory available"), now)
	set(s, pressure(corev1.NodeDiskPressure, p.Disk, "KubeletHasDiskPressure", "kubelet has disk pressure",
		"KubeletHasNoDiskPressure", "kubelet has no disk pressure"), now)
	set(s, pressure(corev1.NodePIDPressure, p.PID, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
		"KubeletHasSufficientPID", "kubelet has sufficient PID available"), now)
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if len(health.Problems) > 0 {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", health.message()
	}
	set(s, ready, now)
}

// extended lists the resources that aren't Kubernetes' own.
func extended(list corev1.ResourceList) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range list {
		if strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix) {
			out = append(out, name)
		}
	}
	return out
}

// overlay sets own values and keeps resources that others have added.
func overlay(have, own corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for k, v := range have {
		out[k] = v
	}
	for k, v := range own {
		out[k] = v
	}
	return out
}

func pressure(t corev1.NodeConditionType, on bool, badReason, badMessage, goodReason, goodMessage string) corev1.NodeCondition {
	if on {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: badReason, Message: badMessage}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage}
}

func find(list []corev1.NodeCondition, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func set(s *corev1.NodeStatus, c corev1.NodeCondition, now time.Time) {
	stamp := metav1.NewTime(now.Truncate(time.Second))
	c.LastHeartbeatTime, c.LastTransitionTime = stamp, stamp
	old := find(s.Conditions, c.Type)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

// Ranges returns the node's pod ranges.
func Ranges(n *corev1.Node) []netip.Prefix {
	list := n.Spec.PodCIDRs
	if len(list) == 0 && n.Spec.PodCIDR != "" {
		list = []string{n.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}
