package criconfig

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxInput is what a sandbox is made from.
type SandboxInput struct {
	Pod     *corev1.Pod
	Attempt uint32
	// CgroupParent is the pod's cgroup.
	CgroupParent string
	DNS          *runtimeapi.DNSConfig
	// Users maps user IDs, for a pod with a user namespace.
	Users *runtimeapi.UserNamespace
	// ExtraGroups are supplemental groups that the pod's volumes ask for.
	ExtraGroups []int64
}

// Sandbox returns the runtime's description of the pod's sandbox.
func Sandbox(n *Node, in SandboxInput) (*runtimeapi.PodSandboxConfig, error) {
	pod := in.Pod
	config := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: in.Attempt},
		Labels:       podLabels(n, pod),
		Annotations:  pod.Annotations,
		DnsConfig:    in.DNS,
		LogDirectory: n.PodLogDir(pod),
	}
	if !pod.Spec.HostNetwork {
		hostname, err := sandboxHostname(n, pod)
		if err != nil {
			return nil, err
		}
		config.Hostname = hostname
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			config.PortMappings = append(config.PortMappings, portMappings(c)...)
		}
	}
	for i := range pod.Spec.Containers {
		config.PortMappings = append(config.PortMappings, portMappings(&pod.Spec.Containers[i])...)
	}
	sc, err := sandboxSecurity(pod, in)
	if err != nil {
		return nil, err
	}
	config.Linux = &runtimeapi.LinuxPodSandboxConfig{
		CgroupParent:    in.CgroupParent,
		SecurityContext: sc,
		Sysctls:         sysctls(pod),
		Overhead:        n.linuxResources(pod.Spec.Overhead.Cpu(), pod.Spec.Overhead.Cpu(), pod.Spec.Overhead.Memory().Value()),
		Resources:       n.podResources(pod),
	}
	if len(pod.Spec.Overhead) == 0 {
		config.Linux.Overhead = &runtimeapi.LinuxContainerResources{}
	}
	return config, nil
}

func portMappings(c *corev1.Container) []*runtimeapi.PortMapping {
	var out []*runtimeapi.PortMapping
	for _, p := range c.Ports {
		m := &runtimeapi.PortMapping{HostIp: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort}
		switch p.Protocol {
		case corev1.ProtocolUDP:
			m.Protocol = runtimeapi.Protocol_UDP
		case corev1.ProtocolSCTP:
			m.Protocol = runtimeapi.Protocol_SCTP
		}
		out = append(out, m)
	}
	return out
}

func sysctls(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	if pod.Spec.SecurityContext != nil {
		for _, s := range pod.Spec.SecurityContext.Sysctls {
			out[dotted(s.Name)] = s.Value
		}
	}
	return out
}

// dotted turns a sysctl's name with slashes into the one with dots: what comes first decides which is the separator.
func dotted(name string) string {
	out := []byte(name)
	slashes := false
	for _, b := range out {
		if b == '.' || b == '/' {
			slashes = b == '/'
			break
		}
	}
	if !slashes {
		return name
	}
	for i, b := range out {
		switch b {
		case '/':
			out[i] = '.'
		case '.':
			out[i] = '/'
		}
	}
	return string(out)
}

func sandboxSecurity(pod *corev1.Pod, in SandboxInput) (*runtimeapi.LinuxSandboxSecurityContext, error) {
	out := &runtimeapi.LinuxSandboxSecurityContext{
		Privileged:         hasPrivileged(pod),
		Seccomp:            &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		NamespaceOptions:   Namespaces(pod, in.Users),
		SupplementalGroups: supplementalGroups(pod, in.ExtraGroups),
	}
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return out, nil
	}
	var err error
	if out.SupplementalGroupsPolicy, err = groupsPolicy(sc); err != nil {
		return nil, err
	}
	out.RunAsUser = int64Value(sc.RunAsUser)
	out.RunAsGroup = int64Value(sc.RunAsGroup)
	out.SelinuxOptions = selinux(sc.SELinuxOptions)
	return out, nil
}

func hasPrivileged(pod *corev1.Pod) bool {
	privileged := func(sc *corev1.SecurityContext) bool { return sc != nil && sc.Privileged != nil && *sc.Privileged }
	for i := range pod.Spec.InitContainers {
		if privileged(pod.Spec.InitContainers[i].SecurityContext) {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if privileged(pod.Spec.Containers[i].SecurityContext) {
			return true
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if privileged(pod.Spec.EphemeralContainers[i].SecurityContext) {
			return true
		}
	}
	return false
}

func supplementalGroups(pod *corev1.Pod, extra []int64) []int64 {
	var out []int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		if sc.FSGroup != nil {
			out = append(out, *sc.FSGroup)
		}
		out = append(out, sc.SupplementalGroups...)
	}
	return append(out, extra...)
}

func groupsPolicy(sc *corev1.PodSecurityContext) (runtimeapi.SupplementalGroupsPolicy, error) {
	if sc.SupplementalGroupsPolicy == nil {
		return runtimeapi.SupplementalGroupsPolicy_Merge, nil
	}
	v, ok := runtimeapi.SupplementalGroupsPolicy_value[string(*sc.SupplementalGroupsPolicy)]
	if !ok {
		return 0, fmt.Errorf("unsupported supplementalGroupsPolicy: %s", string(*sc.SupplementalGroupsPolicy))
	}
	return runtimeapi.SupplementalGroupsPolicy(v), nil
}

func int64Value(v *int64) *runtimeapi.Int64Value {
	if v == nil {
		return nil
	}
	return &runtimeapi.Int64Value{Value: *v}
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}
