package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/api/check"
)

func validateServiceCreate(s *corev1.Service) check.Errors { return validateService(s, nil) }

func validateServiceUpdate(s, old *corev1.Service) (e check.Errors) {
	e.Add(validateClusterIPsUpdate(s, old)...)
	e.Add(validateFamiliesUpdate(s, old)...)
	e.Add(validateBalancerClass(s, old)...)
	if needsHealthCheckPort(old) && needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		e.Forbidden(field.NewPath("spec", "healthCheckNodePort"), "field is immutable")
	}
	e.Add(validateService(s, old)...)
	return e
}

const onlyForLoadBalancers = "may only be used when `type` is 'LoadBalancer'"

// validateService checks a service; old is nil on creation.
func validateService(s, old *corev1.Service) (e check.Errors) {
	spec := field.NewPath("spec")
	const hints, mode = corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode
	if hint, hinted := s.Annotations[hints]; hinted {
		if m, set := s.Annotations[mode]; set && m != hint {
			e.Invalidf(field.NewPath("metadata", "annotations").Key(mode), m, "must match annotations[%s] when both are specified", hints)
		}
	}
	if len(s.Spec.Ports) == 0 && !isHeadless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		e.Required(spec.Child("ports"), "")
	}
	e.Add(validateServiceKind(s, spec)...)
	names := sets.New[string]()
	for i := range s.Spec.Ports {
		e.Add(validateServicePort(&s.Spec.Ports[i], len(s.Spec.Ports) > 1, names, spec.Child("ports").Index(i))...)
	}
	if s.Spec.Selector != nil {
		e.Add(metav1validation.ValidateLabels(s.Spec.Selector, spec.Child("selector"))...)
	}
	e.Add(validateSessionAffinity(&s.Spec, spec)...)
	e.Add(ValidateClusterIPs(s, old)...)
	before := sets.New[string]()
	if old != nil {
		before.Insert(old.Spec.ExternalIPs...)
	}
	for i, ip := range s.Spec.ExternalIPs {
		at := spec.Child("externalIPs").Index(i)
		if errs := validation.IsValidIPForLegacyField(at, ip, true, nil); len(errs) > 0 && !before.Has(ip) {
			e.Add(errs...)
		} else {
			e.Add(ValidateEndpointIP(ip, at)...)
		}
	}
	check.Enum(&e, spec.Child("type"), s.Spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	e.Add(validatePortsTogether(s, spec.Child("ports"))...)
	e.Add(validateSourceRanges(s, old, spec)...)
	allocate := s.Spec.AllocateLoadBalancerNodePorts
	if balancer := s.Spec.Type == corev1.ServiceTypeLoadBalancer; allocate != nil && !balancer {
		e.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), onlyForLoadBalancers)
	} else if allocate == nil && balancer {
		e.Required(field.NewPath("allocateLoadBalancerNodePorts"), "")
	}
	e.Add(validateBalancerClass(s, nil)...)
	e.Add(validateTrafficPolicies(s, spec)...)
	return e
}

// validateServiceKind checks what depends on the type alone.
func validateServiceKind(s *corev1.Service, spec *field.Path) (e check.Errors) {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if isHeadless(s) {
			e.Invalidf(spec.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0], "may not be set to 'None' for %s services", s.Spec.Type)
		}
	case corev1.ServiceTypeExternalName:
		const why = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			e.Forbidden(spec.Child("clusterIPs"), why)
		}
		if len(s.Spec.IPFamilies) > 0 {
			e.Forbidden(spec.Child("ipFamilies"), why)
		}
		if s.Spec.IPFamilyPolicy != nil {
			e.Forbidden(spec.Child("ipFamilyPolicy"), why)
		}
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name == "" {
			e.Required(spec.Child("externalName"), "")
		} else {
			e.Subdomain(spec.Child("externalName"), name)
		}
	}
	return e
}

func validateServicePort(p *corev1.ServicePort, named bool, names sets.Set[string], path *field.Path) (e check.Errors) {
	if p.Name != "" {
		e.Label(path.Child("name"), p.Name)
		if names.Has(p.Name) {
			e.Duplicate(path.Child("name"), p.Name)
		}
		names.Insert(p.Name)
	} else if named {
		e.Required(path.Child("name"), "")
	}
	e.Port(path.Child("port"), p.Port)
	check.Enum(&e, path.Child("protocol"), p.Protocol, protocols...)
	e.Add(validatePortOrName(p.TargetPort, path.Child("targetPort"))...)
	if p.AppProtocol != nil {
		e.Qualified(path.Child("appProtocol"), *p.AppProtocol)
	}
	return e
}

// validatePortsTogether refuses ports that collide.
func validatePortsTogether(s *corev1.Service, path *field.Path) (e check.Errors) {
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				e.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'")
			}
		}
	}
	seen := map[corev1.ServicePort]bool{}
	for i, p := range s.Spec.Ports {
		key := corev1.ServicePort{Protocol: p.Protocol, NodePort: p.NodePort}
		if p.NodePort != 0 && seen[key] {
			e.Duplicate(path.Index(i).Child("nodePort"), p.NodePort)
		}
		seen[key] = true
	}
	clear(seen)
	for i, p := range s.Spec.Ports {
		key := corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
		if seen[key] {
			e.Duplicate(path.Index(i), key)
		}
		seen[key] = true
	}
	return e
}

func validateSessionAffinity(s *corev1.ServiceSpec, spec *field.Path) (e check.Errors) {
	check.Enum(&e, spec.Child("sessionAffinity"), s.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	c, at := s.SessionAffinityConfig, spec.Child("sessionAffinityConfig")
	const missing = "when session affinity type is ClientIP"
	switch s.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if c != nil {
			e.Forbidden(at, "must not be set when session affinity is None")
		}
	case corev1.ServiceAffinityClientIP:
		timeout := at.Child("clientIP", "timeoutSeconds")
		switch {
		case c == nil:
			e.Required(at, missing)
		case c.ClientIP == nil:
			e.Required(at.Child("clientIP"), missing)
		case c.ClientIP.TimeoutSeconds == nil:
			e.Required(timeout, missing)
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
			e.Invalidf(timeout, c.ClientIP.TimeoutSeconds, "must be greater than 0 and less than %d", maxAffinitySeconds)
		}
	}
	return e
}

const maxAffinitySeconds = 86400

var (
	ipFamilies       = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	ipFamilyPolicies = []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}
)

// ValidateClusterIPs checks the addresses, their families and the policy about them; old is nil on creation.
func ValidateClusterIPs(s, old *corev1.Service) (e check.Errors) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	spec := field.NewPath("spec")
	at, families, ips := spec.Child("clusterIPs"), spec.Child("ipFamilies"), s.Spec.ClusterIPs
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		e.Invalid(at, ips, "must be empty when `clusterIP` is not specified")
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		e.Required(at, "")
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		e.Invalid(at, ips, "first value must match `clusterIP`")
	}
	seen := sets.New[corev1.IPFamily]()
	for i, f := range s.Spec.IPFamilies {
		check.OneOf(&e, families.Index(i), f, ipFamilies...)
		if seen.Has(f) {
			e.Duplicate(families.Index(i), f)
		}
		seen.Insert(f)
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		check.OneOf(&e, spec.Child("ipFamilyPolicy"), *p, ipFamilyPolicies...)
	}
	bad := false
	var before []string
	if old != nil {
		before = old.Spec.ClusterIPs
	}
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				bad = true
				e.Invalid(at, ips, "'None' must be the first and only value")
			}
			continue
		}
		errs := validation.IsValidIPForLegacyField(at.Index(i), ip, true, before)
		bad = bad || len(errs) > 0
		e.Add(errs...)
	}
	if len(ips) > 2 {
		e.Invalid(at, ips, "may only hold up to 2 values")
	}
	if bad {
		return e
	}
	if len(ips) > 1 {
		dual, err := netutils.IsDualStackIPStrings(ips)
		if err != nil {
			e.Internal(at, fmt.Errorf("failed to check for dual stack with error:%w", err))
		}
		if !dual {
			e.Invalid(at, ips, "may specify no more than one IP for each IP family")
		}
	}
	if isHeadless(s) {
		return e
	}
	for i := range min(len(ips), len(s.Spec.IPFamilies)) {
		six := netutils.IsIPv6String(ips[i])
		if s.Spec.IPFamilies[i] == corev1.IPv4Protocol && six {
			e.Invalidf(at.Index(i), ips[i], "expected an IPv4 value as indicated by `ipFamilies[%v]`", i)
		}
		if s.Spec.IPFamilies[i] == corev1.IPv6Protocol && !six {
			e.Invalidf(at.Index(i), ips[i], "expected an IPv6 value as indicated by `ipFamilies[%v]`", i)
		}
	}
	return e
}

func validateSourceRanges(s, old *corev1.Service, spec *field.Path) (e check.Errors) {
	const key = corev1.AnnotationLoadBalancerSourceRangesKey
	trimmed := func(list []string) []string {
		out := make([]string, 0, len(list))
		for _, r := range list {
			out = append(out, strings.TrimSpace(r))
		}
		return out
	}
	text, annotated := s.Annotations[key]
	at, allowed := field.NewPath("metadata", "annotations").Key(key), s.Spec.Type == corev1.ServiceTypeLoadBalancer
	switch {
	case len(s.Spec.LoadBalancerSourceRanges) > 0:
		at = spec.Child("LoadBalancerSourceRanges")
		if !allowed {
			e.Forbidden(at, onlyForLoadBalancers)
		}
		before := sets.New[string]()
		if old != nil {
			before.Insert(trimmed(old.Spec.LoadBalancerSourceRanges)...)
		}
		for i, r := range trimmed(s.Spec.LoadBalancerSourceRanges) {
			e.CIDR(at.Index(i), r, before)
		}
	case annotated:
		if !allowed {
			e.Forbidden(at, onlyForLoadBalancers)
		}
		if old != nil && old.Annotations[key] == text || strings.TrimSpace(text) == "" {
			return e
		}
		for _, r := range trimmed(strings.Split(strings.TrimSpace(text), ",")) {
			e.CIDR(at, r, nil)
		}
	}
	return e
}

func validateBalancerClass(s, old *corev1.Service) (e check.Errors) {
	path, class, balancer := field.NewPath("spec", "loadBalancerClass"), s.Spec.LoadBalancerClass, s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if old != nil && balancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer && !sameValue(class, old.Spec.LoadBalancerClass) {
		e.Invalid(path, class, "may not change once set")
	}
	switch {
	case class == nil:
	case balancer:
		e.Qualified(path, *class)
	default:
		e.Forbidden(path, onlyForLoadBalancers)
	}
	return e
}

var trafficDistributions = []string{corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode}

func validateTrafficPolicies(s *corev1.Service, spec *field.Path) (e check.Errors) {
	external := spec.Child("externalTrafficPolicy")
	if externallyAccessible(s) {
		check.Enum(&e, external, s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	} else if s.Spec.ExternalTrafficPolicy != "" {
		e.Invalid(external, s.Spec.ExternalTrafficPolicy, "may only be set for externally-accessible services")
	}
	port, at := s.Spec.HealthCheckNodePort, spec.Child("healthCheckNodePort")
	switch {
	case !needsHealthCheckPort(s):
		if port != 0 {
			e.Invalid(at, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
		}
	case port == 0:
		e.Required(at, "")
	default:
		e.Port(at, port)
	}
	internal := spec.Child("internalTrafficPolicy")
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		check.OneOf(&e, internal, *p, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	} else if hasInternalTraffic(s) {
		e.Required(internal, "")
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		check.OneOf(&e, spec.Child("trafficDistribution"), *d, trafficDistributions...)
	}
	return e
}

const (
	frozenIPs      = "may not change once set"
	singleStackFor = "must be set to 'SingleStack' when releasing the secondary %s"
)

// validateClusterIPsUpdate lets the second address come and go, and keeps the first.
func validateClusterIPsUpdate(s, old *corev1.Service) (e check.Errors) {
	if !needsClusterIP(s) || !needsClusterIP(old) || isHeadless(old) && isHeadless(s) {
		return nil
	}
	path, now, before := field.NewPath("spec", "clusterIPs"), s.Spec.ClusterIPs, old.Spec.ClusterIPs
	switch {
	case len(now) == len(before):
		for i := range before {
			if before[i] != now[i] {
				e.Invalid(path.Index(i), now, frozenIPs)
			}
		}
	case len(now) == 0:
		e.Invalid(path.Index(0), now, "primary clusterIP can not be unset")
	default:
		if len(before) > 0 && now[0] != before[0] {
			e.Invalid(path.Index(0), now, frozenIPs)
		}
		if len(now) < len(before) && len(now) == 1 {
			e.Add(validateSingleStack(s, "clusterIP")...)
		}
	}
	return e
}

func validateSingleStack(s *corev1.Service, released string) (e check.Errors) {
	if p := s.Spec.IPFamilyPolicy; p == nil || *p != corev1.IPFamilyPolicySingleStack {
		e.Invalidf(field.NewPath("spec", "ipFamilyPolicy"), p, singleStackFor, released)
	}
	return e
}

// validateFamiliesUpdate is validateClusterIPsUpdate for the families.
func validateFamiliesUpdate(s, old *corev1.Service) (e check.Errors) {
	if !needsClusterIP(s) || !needsClusterIP(old) || isHeadless(s) || isHeadless(old) {
		return nil
	}
	path, now, before := field.NewPath("spec", "ipFamilies").Index(0), s.Spec.IPFamilies, old.Spec.IPFamilies
	if len(now) == len(before) {
		for i := range before {
			if before[i] != now[i] {
				e.Invalid(path, now, frozenIPs)
			}
		}
		return e
	}
	if len(now) < len(before) && len(s.Spec.ClusterIPs) == 0 {
		e.Invalid(path, now, "primary ipFamily can not be unset")
	}
	if len(now) > 0 && len(before) > 0 && now[0] != before[0] {
		e.Invalid(path, s.Spec.ClusterIPs, frozenIPs)
	}
	if len(now) < len(before) && len(now) == 1 {
		e.Add(validateSingleStack(s, "ipFamily")...)
	}
	return e
}

func validateServiceStatus(s, old *corev1.Service) (e check.Errors) {
	path, now := field.NewPath("status", "loadBalancer", "ingress"), s.Status.LoadBalancer.Ingress
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(now) > 0 {
		e.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
		return e
	}
	before := sets.New[string]()
	for _, i := range old.Status.LoadBalancer.Ingress {
		if i.IP != "" {
			before.Insert(i.IP)
		}
	}
	for i, ingress := range now {
		at := path.Index(i)
		if ingress.IP != "" {
			e.IP(at.Child("ip"), ingress.IP, before)
		}
		switch mode := ingress.IPMode; {
		case mode == nil && ingress.IP != "":
			e.Required(at.Child("ipMode"), "must be specified when `ip` is set")
		case mode != nil && ingress.IP == "":
			e.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set")
		case mode != nil:
			check.OneOf(&e, at.Child("ipMode"), *mode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)
		}
		if ingress.Hostname != "" {
			e.Subdomain(at.Child("hostname"), ingress.Hostname)
			if netutils.ParseIPSloppy(ingress.Hostname) != nil {
				e.Invalid(at.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address")
			}
		}
	}
	return e
}
