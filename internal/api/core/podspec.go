package core

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// validatePodSpec checks the spec of a pod, whose metadata are given, or of a template, which has none yet.
func validatePodSpec(spec *corev1.PodSpec, pod *metav1.ObjectMeta, path *field.Path, opts *podOptions) (e check.Errors) {
	if spec.TerminationGracePeriodSeconds == nil {
		e.Required(path.Child("terminationGracePeriodSeconds"), "")
	}
	volumes, errs := validateVolumes(spec.Volumes, pod, path.Child("volumes"), opts)
	e.Add(errs...)
	c := containerCheck{
		spec: spec, volumes: volumes, claims: sets.New[string](), opts: opts,
		hostUsers: spec.HostUsers == nil || *spec.HostUsers,
	}
	for _, claim := range spec.ResourceClaims {
		if claim.Name != "" {
			c.claims.Insert(claim.Name)
		}
	}
	e.Add(validatePodClaims(pod, spec.ResourceClaims, path.Child("resourceClaims"))...)
	e.Add(c.containers(path.Child("containers"))...)
	e.Add(c.initContainers(path.Child("initContainers"))...)
	e.Add(c.ephemeralContainers(path.Child("ephemeralContainers"))...)
	e.Add(validatePodResources(spec, c.claims, path, opts)...)
	e.Add(validateHostPorts(spec, path, opts)...)
	check.Enum(&e, path.Child("restartPolicy"), spec.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	check.Enum(&e, path.Child("dnsPolicy"), spec.DNSPolicy, corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	e.Add(metav1validation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	e.Add(validatePodSecurity(spec, path.Child("securityContext"), opts)...)
	e.Add(validateAffinity(spec.Affinity, path.Child("affinity"), opts)...)
	e.Add(validateDNSConfig(spec.DNSConfig, spec.DNSPolicy, path.Child("dnsConfig"))...)
	for i, gate := range spec.ReadinessGates {
		e.Qualified(path.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType))
	}
	e.Add(validateSchedulingGates(spec.SchedulingGates, path.Child("schedulingGates"))...)
	e.Add(validateSpread(spec.TopologySpreadConstraints, path.Child("topologySpreadConstraints"), opts)...)
	e.Add(validateHostProcess(spec, path)...)
	e.Add(validateHostUsers(spec, path, opts)...)
	e.Add(validateHostnameOverride(spec, path)...)
	e.Add(validatePodNames(spec, path)...)
	if spec.ActiveDeadlineSeconds != nil && (*spec.ActiveDeadlineSeconds < 1 || *spec.ActiveDeadlineSeconds > math.MaxInt32) {
		e.Invalid(path.Child("activeDeadlineSeconds"), *spec.ActiveDeadlineSeconds, validation.InclusiveRangeError(1, math.MaxInt32))
	}
	e.Add(validateTolerations(spec.Tolerations, path.Child("tolerations"), opts)...)
	for i, alias := range spec.HostAliases {
		at := path.Child("hostAliases").Index(i)
		e.IP(at.Child("ip"), alias.IP, nil)
		for j, name := range alias.Hostnames {
			e.Subdomain(at.Child("hostnames").Index(j), name)
		}
	}
	if spec.PreemptionPolicy != nil {
		e.Add(ValidatePreemptionPolicy(*spec.PreemptionPolicy, path.Child("preemptionPolicy"))...)
	}
	if spec.Overhead != nil {
		whole := corev1.ResourceRequirements{Limits: spec.Overhead}
		e.Add(requirementsCheck{validateContainerResourceName, nil, opts}.validate(&whole, path.Child("overhead"))...)
	}
	e.Add(validateOS(spec, path)...)
	if spec.SchedulingGroup != nil {
		at := path.Child("schedulingGroup", "podGroupName")
		if name := spec.SchedulingGroup.PodGroupName; name == nil {
			e.Invalid(at, name, "must specify one of: `podGroupName`")
		} else {
			e.Messages(at, *name, apivalidation.NameIsDNSSubdomain(*name, false))
		}
	}
	e.Add(validateFileKeyVolumes(spec, path)...)
	return e
}

// validatePodNames checks the names of other objects and of hosts.
func validatePodNames(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	subdomain := func(name, value string) {
		if value != "" {
			e.Messages(path.Child(name), value, apivalidation.NameIsDNSSubdomain(value, false))
		}
	}
	label := func(name, value string) {
		if value != "" {
			e.Label(path.Child(name), value)
		}
	}
	subdomain("serviceAccountName", spec.ServiceAccountName)
	subdomain("nodeName", spec.NodeName)
	label("hostname", spec.Hostname)
	label("subdomain", spec.Subdomain)
	subdomain("priorityClassName", spec.PriorityClassName)
	if spec.RuntimeClassName != nil {
		e.Messages(path.Child("runtimeClassName"), *spec.RuntimeClassName, apivalidation.NameIsDNSSubdomain(*spec.RuntimeClassName, false))
	}
	return e
}

// ValidatePreemptionPolicy checks the policy of a pod or of a PriorityClass.
func ValidatePreemptionPolicy(p corev1.PreemptionPolicy, path *field.Path) (e check.Errors) {
	check.Enum(&e, path, p, corev1.PreemptLowerPriority, corev1.PreemptNever)
	return e
}

func validateHostPorts(spec *corev1.PodSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	if !spec.HostNetwork {
		return nil
	}
	for i, c := range spec.Containers {
		for j, p := range c.Ports {
			if (opts.isPod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				e.Invalid(path.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
	return e
}

const (
	maxNameservers     = 3
	maxSearches        = 32
	maxSearchListChars = 2048
)

func validateDNSConfig(c *corev1.PodDNSConfig, policy corev1.DNSPolicy, path *field.Path) (e check.Errors) {
	if policy == corev1.DNSNone {
		if c == nil {
			e.Required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
			return e
		}
		if len(c.Nameservers) == 0 {
			e.Required(path.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")
			return e
		}
	}
	if c == nil {
		return nil
	}
	if len(c.Nameservers) > maxNameservers {
		e.Invalidf(path.Child("nameservers"), c.Nameservers, "must not have more than %v nameservers", maxNameservers)
	}
	for i, ip := range c.Nameservers {
		e.IP(path.Child("nameservers").Index(i), ip, nil)
	}
	searches := path.Child("searches")
	if len(c.Searches) > maxSearches {
		e.Invalidf(searches, c.Searches, "must not have more than %v search paths", maxSearches)
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchListChars {
		e.Invalidf(searches, c.Searches, "must not have more than %v characters (including spaces) in the search list", maxSearchListChars)
	}
	for i, s := range c.Searches {
		if s != "." {
			s = strings.TrimSuffix(s, ".")
			e.Messages(searches.Index(i), s, validation.IsDNS1123SubdomainWithUnderscore(s))
		}
	}
	for i, o := range c.Options {
		e.NonEmptyf(path.Child("options").Index(i), o.Name, "must not be empty")
	}
	return e
}

func validateSchedulingGates(gates []corev1.PodSchedulingGate, path *field.Path) (e check.Errors) {
	seen := sets.New[string]()
	for i, g := range gates {
		e.Qualified(path.Index(i), g.Name)
		if seen.Has(g.Name) {
			e.Duplicate(path.Index(i), g.Name)
		}
		seen.Insert(g.Name)
	}
	return e
}

func validateHostnameOverride(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	if spec.HostnameOverride == nil {
		return nil
	}
	at := path.Child("hostnameOverride")
	if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
		e.Forbidden(at, "may not be specified when setHostnameAsFQDN is true")
	}
	if spec.HostNetwork {
		e.Forbidden(at, "may not be specified when hostNetwork is true")
	}
	if len(*spec.HostnameOverride) > 64 {
		e.TooLong(at, 64)
	}
	e.Subdomain(at, *spec.HostnameOverride)
	return e
}

// validatePodClaims checks the resource claims of a pod.
func validatePodClaims(pod *metav1.ObjectMeta, claims []corev1.PodResourceClaim, path *field.Path) (e check.Errors) {
	seen := sets.New[string]()
	for i, c := range claims {
		if pod != nil {
			if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
				e.Forbidden(field.NewPath(""), "static pods do not support resource claims")
				continue
			}
		}
		at := path.Index(i)
		switch {
		case c.Name == "":
			e.Required(at.Child("name"), "")
		case seen.Has(c.Name):
			e.Duplicate(at.Child("name"), c.Name)
		default:
			e.Label(at.Child("name"), c.Name)
			seen.Insert(c.Name)
		}
		if c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil {
			e.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		}
		if c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil {
			e.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
		if n := c.ResourceClaimName; n != nil {
			e.Messages(at.Child("resourceClaimName"), *n, apivalidation.NameIsDNSSubdomain(*n, false))
		}
		if n := c.ResourceClaimTemplateName; n != nil {
			e.Messages(at.Child("resourceClaimTemplateName"), *n, apivalidation.NameIsDNSSubdomain(*n, false))
		}
	}
	return e
}

// validateFileKeyVolumes requires that variables read from files read them from emptyDirs.
func validateFileKeyVolumes(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	var volumes map[string]*corev1.Volume
	for place, c := range allContainers(spec) {
		for j, v := range c.Env {
			if v.ValueFrom == nil || v.ValueFrom.FileKeyRef == nil {
				continue
			}
			if volumes == nil {
				volumes = map[string]*corev1.Volume{}
				for i := range spec.Volumes {
					volumes[spec.Volumes[i].Name] = &spec.Volumes[i]
				}
			}
			name := v.ValueFrom.FileKeyRef.VolumeName
			at := place.path(path).Child("env").Index(j).Child("valueFrom", "fileKeyRef", "volumeName")
			if source, found := volumes[name]; !found {
				e.NotFound(at, name)
			} else if source.EmptyDir == nil {
				e.Invalid(at, name, "referenced volume must be of type emptyDir")
			}
		}
	}
	return e
}
