package lifecycle

import (
	"cmp"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// StatusInput is all that a status is made from. Read-only.
type StatusInput struct {
	Pod      *corev1.Pod
	Observed *Observed
	// Previous is the status that was made last, or the API's when there is none.
	Previous corev1.PodStatus
	Health   HealthFunc
	// Waiting tells why containers don't run, by name.
	Waiting map[string]Waiting
	// Ended says that no container will be started any more.
	Ended bool
	// Stopped says that nothing of the pod runs any more: only then a terminal phase is reported.
	Stopped bool
	// Verdict overrides phase, reason and message: the pod was evicted, rejected or exceeded its deadline.
	Verdict *PodVerdict
	// Disruption is the DisruptionTarget condition that goes with an eviction.
	Disruption *corev1.PodCondition
	// Resize are the conditions that tell of a change of the pod's resources under way or waiting.
	Resize []corev1.PodCondition
	// Enforced are the resources of the pod as a whole while those of its spec aren't in force yet; nil when they are.
	Enforced *corev1.ResourceRequirements
	// HostIPs are the node's addresses, the primary one first.
	HostIPs []string
	// Now is the time of the status.
	Now time.Time
}

// Waiting is why a container doesn't run.
type Waiting struct {
	Reason, Message string
}

// PodVerdict ends a pod for a reason of its own.
type PodVerdict struct {
	Phase           corev1.PodPhase
	Reason, Message string
}

// Terminal tells whether a phase is final.
func Terminal(p corev1.PodPhase) bool {
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

// firstSeen is when the pod was begun with: now, or, if its status was never reported, when its first sandbox was made.
func firstSeen(in *StatusInput) time.Time {
	first := in.Now
	if in.Observed == nil {
		return first
	}
	for _, sb := range in.Observed.Sandboxes {
		if sb.CreatedAt.Before(first) && !sb.CreatedAt.IsZero() {
			first = sb.CreatedAt
		}
	}
	return first
}

// Status makes the status to report.
func Status(in StatusInput) corev1.PodStatus {
	s := corev1.PodStatus{
		ObservedGeneration:          in.Pod.Generation,
		QOSClass:                    QOS(in.Pod),
		StartTime:                   in.Previous.StartTime,
		NominatedNodeName:           in.Pod.Status.NominatedNodeName,
		ResourceClaimStatuses:       in.Pod.Status.ResourceClaimStatuses,
		ExtendedResourceClaimStatus: in.Pod.Status.ExtendedResourceClaimStatus,
	}
	if s.StartTime == nil {
		start := stamp(firstSeen(&in))
		s.StartTime = &start
	}
	addresses(&in, &s)
	all := containerStatuses(&in, &s)
	s.Phase = phase(in.Pod, all, in.Ended, anyRegularActive(in.Pod, in.Observed))
	settlePhase(&in, &s)
	var others []corev1.PodCondition
	for _, c := range in.Pod.Status.Conditions {
		if !OwnedCondition(c.Type) {
			others = append(others, c)
		}
	}
	s.Conditions = conditions(&in, &s, all, others)
	podResources(&in, &s)
	if Terminal(s.Phase) && !in.Stopped && !Terminal(in.Pod.Status.Phase) {
		// Whoever reads Succeeded or Failed may rely on nothing running: conditions tell of the end already, the phase waits.
		s.Phase = in.Pod.Status.Phase
		if s.Phase == "" {
			s.Phase = corev1.PodPending
		}
		s.Reason, s.Message = in.Pod.Status.Reason, in.Pod.Status.Message
	}
	return s
}

// settlePhase keeps terminal phases terminal and applies a verdict.
func settlePhase(in *StatusInput, s *corev1.PodStatus) {
	if !Terminal(s.Phase) {
		if Terminal(in.Previous.Phase) {
			s.Phase = in.Previous.Phase
		} else if Terminal(in.Pod.Status.Phase) {
			s.Phase = in.Pod.Status.Phase
		}
	}
	if s.Phase == in.Previous.Phase {
		s.Reason, s.Message = in.Previous.Reason, in.Previous.Message
		if s.Reason == "" {
			s.Reason = in.Pod.Status.Reason
		}
		if s.Message == "" {
			s.Message = in.Pod.Status.Message
		}
	}
	if in.Verdict != nil {
		s.Phase, s.Reason, s.Message = in.Verdict.Phase, in.Verdict.Reason, in.Verdict.Message
	}
	if Terminal(in.Pod.Status.Phase) {
		s.Phase = in.Pod.Status.Phase
	}
}

// addresses sets the host's and the pod's addresses; of the pod's at most one for each family, the node's family first.
func addresses(in *StatusInput, s *corev1.PodStatus) {
	if len(in.HostIPs) > 0 {
		s.HostIP = in.HostIPs[0]
		for _, ip := range in.HostIPs {
			s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	ips := in.Observed.IPs()
	if in.Pod.Spec.HostNetwork {
		ips = nil
		for _, ip := range in.Previous.PodIPs {
			ips = append(ips, ip.IP)
		}
		if len(ips) == 0 {
			ips = in.HostIPs
		}
	}
	if len(ips) == 0 {
		for _, ip := range in.Previous.PodIPs {
			ips = append(ips, ip.IP)
		}
	}
	for _, ip := range SortIPs(ips, in.HostIPs) {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
}

// SortIPs returns the first address of the primary host address' family and then the first of the other.
func SortIPs(ips, hostIPs []string) []string {
	wantV6 := false
	if len(hostIPs) > 0 {
		if a, err := netip.ParseAddr(hostIPs[0]); err == nil {
			wantV6 = a.Is6() && !a.Is4In6()
		}
	}
	var out []string
	for _, v6 := range []bool{wantV6, !wantV6} {
		for _, ip := range ips {
			if a, err := netip.ParseAddr(ip); err == nil && (a.Is6() && !a.Is4In6()) == v6 {
				out = append(out, a.Unmap().String())
				break
			}
		}
	}
	return out
}

func anyRegularActive(pod *corev1.Pod, o *Observed) bool {
	for i := range pod.Spec.Containers {
		if c := o.Container(pod.Spec.Containers[i].Name); c != nil && (c.State == Running || c.State == Exited) {
			if sandbox := o.Sandbox(); sandbox == nil || c.SandboxID == "" || c.SandboxID == sandbox.ID {
				return true
			}
		}
	}
	return false
}

// podResources reports pod-level resources where the pod has them.
func podResources(in *StatusInput, s *corev1.PodStatus) {
	s.AllocatedResources = resourcehelper.PodRequests(in.Pod, resourcehelper.PodResourcesOptions{})
	if in.Pod.Spec.Resources != nil {
		s.Resources = cmp.Or(in.Enforced, in.Pod.Spec.Resources).DeepCopy()
	}
	if len(s.AllocatedResources) == 0 {
		s.AllocatedResources = nil
	}
}
