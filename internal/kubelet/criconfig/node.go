package criconfig

import (
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Node is what a translation needs to know of the node.
type Node struct {
	// Owner is the value of OwnerLabel.
	Owner string
	// LogDir holds the pods' logs, SeccompDir the profiles of type Localhost.
	LogDir, SeccompDir string
	// ClusterDNS and ClusterDomain go into pods' resolver configuration; ResolvConf is the node's own file.
	ClusterDNS    []string
	ClusterDomain string
	ResolvConf    string
	// MemoryCapacity in bytes, for OOM scores.
	MemoryCapacity int64
	// PageSizes are the huge page sizes that the kernel offers, as "2MB".
	PageSizes []string
	// CgroupV2 and SwapAccounting tell what the node's cgroups can do.
	CgroupV2, SwapAccounting bool
	// CPUCFSQuota enforces CPU limits, over periods of QuotaPeriod.
	CPUCFSQuota bool
	QuotaPeriod time.Duration
	// SingleOOMKill has the kernel kill a process alone that lacks memory, instead of the container.
	SingleOOMKill bool
	// SeccompDefault makes RuntimeDefault the profile of containers that name none.
	SeccompDefault bool
	// MaskedPaths beyond the usual ones, for this machine's processors.
	MaskedPaths []string
}

// PodLogDir is where the logs of a pod lie: <namespace>_<name>_<uid>.
func (n *Node) PodLogDir(pod *corev1.Pod) string {
	return filepath.Join(n.LogDir, PodLogDirName(pod))
}

// PodLogDirName is the last element of PodLogDir. A static pod's logs lie under its own UID, not its mirror's.
func PodLogDirName(pod *corev1.Pod) string {
	return pod.Namespace + "_" + pod.Name + "_" + string(pod.UID)
}

// PodName names a pod in messages: name_namespace(uid).
func PodName(pod *corev1.Pod) string {
	return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")"
}

// Namespaces returns which namespaces the pod shares with whom.
func Namespaces(pod *corev1.Pod, users *runtimeapi.UserNamespace) *runtimeapi.NamespaceOption {
	mode := func(host bool, otherwise runtimeapi.NamespaceMode) runtimeapi.NamespaceMode {
		if host {
			return runtimeapi.NamespaceMode_NODE
		}
		return otherwise
	}
	pid := runtimeapi.NamespaceMode_CONTAINER
	if p := pod.Spec.ShareProcessNamespace; p != nil && *p {
		pid = runtimeapi.NamespaceMode_POD
	}
	return &runtimeapi.NamespaceOption{
		Network:       mode(pod.Spec.HostNetwork, runtimeapi.NamespaceMode_POD),
		Ipc:           mode(pod.Spec.HostIPC, runtimeapi.NamespaceMode_POD),
		Pid:           mode(pod.Spec.HostPID, pid),
		UsernsOptions: users,
	}
}
