package core

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

// Nodes is the row of core/v1 Node.
var Nodes = api.Register(&api.Resource{
	Name:         "nodes",
	Singular:     "node",
	Kind:         "Node",
	ShortNames:   []string{"no"},
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[corev1.Node, corev1.NodeList]("v1")},
	Prefix:       "minions",

	Default:                  api.On(defaultNode),
	PrepareCreate:            api.On(func(n *corev1.Node) { n.Spec.ConfigSource, n.Status.Config = nil, nil }),
	PrepareUpdate:            api.OnUpdate(prepareNodeUpdate),
	Validate:                 api.Check(validateNode),
	ValidateUpdate:           api.CheckUpdate(validateNodeMainUpdate),
	Warnings:                 api.Warn(nodeWarnings),
	Canonicalize:             api.On(allocateCapacity),
	AllowUnconditionalUpdate: true,

	Fields: map[string]func(api.Object) string{
		"spec.unschedulable": api.Select(func(n *corev1.Node) string { return strconv.FormatBool(n.Spec.Unschedulable) }),
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Status", "string", "The status of the node"),
		api.Column("Roles", "string", "The roles of the node"),
		api.AgeColumn,
		api.Column("Version", "string", systemInfoDoc["kubeletVersion"]),
		api.WideColumn("Internal-IP", "string", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
		api.WideColumn("External-IP", "string", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
		api.WideColumn("OS-Image", "string", systemInfoDoc["osImage"]),
		api.WideColumn("Kernel-Version", "string", systemInfoDoc["kernelVersion"]),
		api.WideColumn("Container-Runtime", "string", systemInfoDoc["containerRuntimeVersion"]),
	},
	Cells: api.Print(nodeCells),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(prepareNodeStatus),
		ValidateUpdate: api.CheckUpdate(validateNodeUpdate),
	},
	Connect: []string{"proxy"},
})

var systemInfoDoc = corev1.NodeSystemInfo{}.SwaggerDoc()

func defaultNode(n *corev1.Node) {
	s := &n.Status
	if s.Allocatable == nil && s.Capacity != nil {
		s.Allocatable = s.Capacity.DeepCopy()
	}
	roundUp(s.Capacity)
	roundUp(s.Allocatable)
	// The single podCIDR rules where it disagrees with podCIDRs: its writer does not know the other.
	if n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR) {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
}

// allocateCapacity says of an allocatable of nothing what whoever reads it says: protobuf doesn't tell it from none, and none is the capacity.
func allocateCapacity(n *corev1.Node) {
	if s := &n.Status; len(s.Allocatable) == 0 && len(s.Capacity) > 0 {
		s.Allocatable = s.Capacity.DeepCopy()
	}
}

func prepareNodeUpdate(n, old *corev1.Node) {
	n.Status = old.Status
	if old.Spec.ConfigSource == nil {
		n.Spec.ConfigSource = nil
	}
}

func prepareNodeStatus(n, old *corev1.Node) {
	n.Spec = old.Spec
	if old.Status.Config == nil {
		n.Status.Config = nil
	}
}

const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

func nodeRoles(n *corev1.Node) string {
	roles := map[string]bool{}
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, rolePrefix); ok && role != "" {
			roles[role] = true
		} else if key == roleLabel && value != "" {
			roles[value] = true
		}
	}
	if len(roles) == 0 {
		return "<none>"
	}
	return strings.Join(slices.Sorted(maps.Keys(roles)), ",")
}

func nodeReadiness(n *corev1.Node) string {
	state := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			state = "NotReady"
			if c.Status == corev1.ConditionTrue {
				state = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		state += ",SchedulingDisabled"
	}
	return state
}

func nodeCells(n *corev1.Node, p api.PrintOptions) []any {
	address := func(kind corev1.NodeAddressType) string {
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				return a.Address
			}
		}
		return "<none>"
	}
	info := n.Status.NodeInfo
	kernel := firstOf(info.KernelVersion, "<unknown>")
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		n.Name, nodeReadiness(n), nodeRoles(n), api.Age(n.CreationTimestamp, p), info.KubeletVersion,
		address(corev1.NodeInternalIP), address(corev1.NodeExternalIP),
		firstOf(info.OSImage, "<unknown>"), kernel, firstOf(info.ContainerRuntimeVersion, "<unknown>"),
	}
}
