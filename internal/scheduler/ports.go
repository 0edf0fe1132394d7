package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// ports keeps two pods from publishing the same port on one node.
type ports struct{}

var portTaken = &refusal{reasons: []string{"node(s) didn't have free ports for the requested pod ports"}}

func (ports) name() string { return "NodePorts" }

func (ports) compile(p *podInfo, c *cluster) *rule {
	if len(p.ports) == 0 {
		return nil
	}
	want := p.ports
	return &rule{
		wait: nodeAdded | podRemoved,
		filter: func(slot int) *refusal {
			for _, port := range want {
				if c.nodes[slot].ports.conflicts(port) {
					return portTaken
				}
			}
			return nil
		},
	}
}

// hostPort is a port on a node. An empty address is all of the node's.
type hostPort struct {
	address  string
	protocol corev1.Protocol
	port     int32
}

func (h hostPort) String() string { return fmt.Sprintf("%s:%s:%d,", h.address, h.protocol, h.port) }

// hostPorts lists what a pod publishes, its sidecars' ports too.
func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort <= 0 {
				continue
			}
			h := hostPort{p.HostIP, p.Protocol, p.HostPort}
			if h.address == "0.0.0.0" || h.address == "::" {
				h.address = ""
			}
			if h.protocol == "" {
				h.protocol = corev1.ProtocolTCP
			}
			out = append(out, h)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

// portSet counts the uses of each port of a node.
type portSet map[hostPort]int

func (s portSet) add(all []hostPort) {
	for _, p := range all {
		s[p]++
	}
}

func (s portSet) remove(all []hostPort) {
	for _, p := range all {
		if s[p]--; s[p] <= 0 {
			delete(s, p)
		}
	}
}

func (s portSet) conflicts(p hostPort) bool {
	if p.address != "" {
		return s[p] > 0 || s[hostPort{"", p.protocol, p.port}] > 0
	}
	for used := range s {
		if used.protocol == p.protocol && used.port == p.port {
			return true
		}
	}
	return false
}
