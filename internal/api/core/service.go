package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/api"
)

// Services is the row of core/v1 Service. Addresses and ports come from the hooks that the assembly of the server installs.
var Services = api.Register(&api.Resource{
	Name:       "services",
	Singular:   "service",
	Kind:       "Service",
	ShortNames: []string{"svc"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[corev1.Service, corev1.ServiceList]("v1")},
	Prefix:     "services/specs",

	Default:                  api.On(defaultService),
	Renew:                    api.On(renewService),
	PrepareCreate:            api.On(func(s *corev1.Service) { s.Status = corev1.ServiceStatus{}; KeepAllocated(s, nil) }),
	PrepareUpdate:            api.OnUpdate(prepareServiceUpdate),
	Validate:                 api.Check(validateServiceCreate),
	ValidateUpdate:           api.CheckUpdate(validateServiceUpdate),
	Canonicalize:             api.On(dropInternalTraffic),
	Warnings:                 api.Warn(serviceWarnings),
	NameRule:                 apivalidation.NameIsDNSLabel,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Fields: map[string]func(api.Object) string{
		"spec.clusterIP": api.Select(func(s *corev1.Service) string { return s.Spec.ClusterIP }),
		"spec.type":      api.Select(func(s *corev1.Service) string { return string(s.Spec.Type) }),
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Type", "string", serviceDoc["type"]),
		api.Column("Cluster-IP", "string", serviceDoc["clusterIP"]),
		api.Column("External-IP", "string", serviceDoc["externalIPs"]),
		api.Column("Port(s)", "string", serviceDoc["ports"]),
		api.AgeColumn,
		api.WideColumn("Selector", "string", serviceDoc["selector"]),
	},
	Cells: api.Print(serviceCells),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.Service) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckUpdate(validateServiceStatus),
		Warnings:       api.Warn(serviceStatusWarnings),
	},
	Connect: []string{"proxy"},
})

var serviceDoc = corev1.ServiceSpec{}.SwaggerDoc()

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	setString(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(corev1.DefaultClientIPServiceAffinitySeconds)}}
		}
	}
	setString(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		setString(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if externallyAccessible(s) {
		setString(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if hasInternalTraffic(s) {
		set(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		set(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if ingress := &s.Status.LoadBalancer.Ingress[i]; ingress.IP != "" {
				set(&ingress.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

func externallyAccessible(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		return true
	}
	return s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func hasInternalTraffic(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP:
		return true
	}
	return false
}

func needsClusterIP(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func mayHaveNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsNodePorts(s *corev1.Service) bool {
	if allocate := s.Spec.AllocateLoadBalancerNodePorts; s.Spec.Type == corev1.ServiceTypeLoadBalancer && allocate != nil && !*allocate {
		return false
	}
	return mayHaveNodePorts(s)
}

func needsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func isHeadless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func sameClusterIPs(a, b *corev1.Service) bool {
	return slices.Equal(a.Spec.ClusterIPs, b.Spec.ClusterIPs)
}

// listClusterIP gives services from before there were several addresses their list.
func listClusterIP(s *corev1.Service) {
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// dropInternalTraffic drops what a service outside the cluster may say and has no use for: it is never shown.
func dropInternalTraffic(s *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		s.Spec.InternalTrafficPolicy = nil
	}
}

// renewService fills in what services from before there were several addresses, or families of them, don't say, and drops what was
// wrongly defaulted for those without addresses.
func renewService(s *corev1.Service) {
	listClusterIP(s)
	dropInternalTraffic(s)
	if needsClusterIP(s) && len(s.Spec.IPFamilies) == 0 {
		inferFamilies(&s.Spec)
	}
}

// inferFamilies tells the families of a service from its addresses. One without addresses that names no pods may have endpoints of either
// family; IPv4 is the first of each cluster.
func inferFamilies(s *corev1.ServiceSpec) {
	switch {
	case s.ClusterIP == corev1.ClusterIPNone && len(s.Selector) == 0:
		s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	case s.ClusterIP == corev1.ClusterIPNone:
		s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	default:
		for _, ip := range s.ClusterIPs {
			family := corev1.IPv4Protocol
			if netutils.IsIPv6String(ip) {
				family = corev1.IPv6Protocol
			}
			s.IPFamilies = append(s.IPFamilies, family)
		}
	}
	switch len(s.IPFamilies) {
	case 1:
		s.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	case 2:
		s.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	}
}

// KeepAllocated copies to an update what was allocated for the service before and the client left out, so that the manifest from which
// a service was created can be put again. It runs before anything is allocated for the update, or for a new service, when old is nil.
func KeepAllocated(s, old *corev1.Service) {
	if old == nil {
		listClusterIP(s)
		return
	}
	if needsClusterIP(old) && needsClusterIP(s) {
		setString(&s.Spec.ClusterIP, old.Spec.ClusterIP)
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	normalizeClusterIPs(s, old)
	if needsNodePorts(old) && needsNodePorts(s) {
		keepNodePorts(s.Spec.Ports, old.Spec.Ports)
	}
	if needsHealthCheckPort(old) && needsHealthCheckPort(s) {
		setInt(&s.Spec.HealthCheckNodePort, old.Spec.HealthCheckNodePort)
	}
}

// normalizeClusterIPs follows clients that know one address alone.
func normalizeClusterIPs(s, old *corev1.Service) {
	if s.Spec.ClusterIP == old.Spec.ClusterIP {
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
		return
	}
	if !sameClusterIPs(s, old) {
		return
	}
	if s.Spec.ClusterIP == "" {
		s.Spec.ClusterIPs = nil
	} else {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// keepNodePorts finds the old node ports by the names of the ports.
func keepNodePorts(ports, old []corev1.ServicePort) {
	before, now, byName := map[int32]bool{}, map[int32]bool{}, map[string]int32{}
	for _, p := range old {
		before[p.NodePort] = p.NodePort != 0
		byName[p.Name] = p.NodePort
	}
	for _, p := range ports {
		now[p.NodePort] = p.NodePort != 0
	}
	for i := range ports {
		if port := byName[ports[i].Name]; ports[i].NodePort == 0 && !(before[port] && now[port]) {
			ports[i].NodePort = port
		}
	}
}

// prepareServiceUpdate drops what belonged to the old type and the client did not set itself.
func prepareServiceUpdate(s, old *corev1.Service) {
	s.Status = old.Status
	if needsClusterIP(old) && !needsClusterIP(s) {
		if s.Spec.ClusterIP == old.Spec.ClusterIP && sameClusterIPs(s, old) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if sameValue(s.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
			s.Spec.IPFamilyPolicy = nil
		}
	}
	if mayHaveNodePorts(old) && !mayHaveNodePorts(s) && onlyNodePortsOf(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthCheckPort(old) && !needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if old.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if sameValue(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if sameValue(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
	if externallyAccessible(old) && !externallyAccessible(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

func sameValue[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func onlyNodePortsOf(s, old *corev1.Service) bool {
	had := map[int32]bool{0: true}
	for _, p := range old.Spec.Ports {
		had[p.NodePort] = true
	}
	for _, p := range s.Spec.Ports {
		if !had[p.NodePort] {
			return false
		}
	}
	return true
}

func serviceCells(s *corev1.Service, p api.PrintOptions) []any {
	address := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		address = s.Spec.ClusterIPs[0]
	}
	ports := make([]string, 0, len(s.Spec.Ports))
	for _, port := range s.Spec.Ports {
		text := fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		if port.NodePort > 0 {
			text = fmt.Sprintf("%d:%d/%s", port.Port, port.NodePort, port.Protocol)
		}
		ports = append(ports, text)
	}
	return []any{
		s.Name, string(s.Spec.Type), address, externalIP(s), firstOf(strings.Join(ports, ","), "<none>"), api.Age(s.CreationTimestamp, p),
		labels.FormatLabels(s.Spec.Selector),
	}
}

func externalIP(s *corev1.Service) string {
	own := strings.Join(s.Spec.ExternalIPs, ",")
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return firstOf(own, "<none>")
	case corev1.ServiceTypeLoadBalancer:
		balancers := map[string]bool{}
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if name := firstOf(ingress.IP, ingress.Hostname); name != "" {
				balancers[name] = true
			}
		}
		all := append(slices.Sorted(maps.Keys(balancers)), s.Spec.ExternalIPs...)
		return firstOf(strings.Join(all, ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return "<unknown>"
}
