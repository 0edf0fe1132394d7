package core

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"clipper.dev/clipper/internal/api/check"
)

// validatePodSecurity checks what applies to all containers of a pod.
func validatePodSecurity(spec *corev1.PodSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	sc := spec.SecurityContext
	if sc == nil {
		return nil
	}
	validateGroup(&e, sc.FSGroup, path.Child("fsGroup"))
	validateUser(&e, sc.RunAsUser, path.Child("runAsUser"))
	validateGroup(&e, sc.RunAsGroup, path.Child("runAsGroup"))
	for i := range sc.SupplementalGroups {
		validateGroup(&e, &sc.SupplementalGroups[i], path.Child("supplementalGroups").Index(i))
	}
	if share := spec.ShareProcessNamespace; share != nil && *share && spec.HostPID {
		e.Invalid(path.Child("shareProcessNamespace"), *share, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	e.Add(validateSysctls(spec, path.Child("sysctls"), opts)...)
	if p := sc.FSGroupChangePolicy; p != nil {
		check.OneOf(&e, path.Child("fsGroupChangePolicy"), *p, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	e.Add(validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	e.Add(validateWindowsOptions(sc.WindowsOptions, path.Child("windowsOptions"))...)
	e.Add(validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
	if p := sc.SupplementalGroupsPolicy; p != nil {
		check.OneOf(&e, path.Child("supplementalGroupsPolicy"), *p, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if p := sc.SELinuxChangePolicy; p != nil {
		if opts.anySELinuxPolicy {
			check.OneOf(&e, path.Child("seLinuxChangePolicy"), *p, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
		} else {
			check.OneOf(&e, path.Child("seLinuxChangePolicy"), *p, corev1.SELinuxChangePolicyRecursive)
		}
	}
	return e
}

func validateUser(e *check.Errors, id *int64, path *field.Path) {
	if id != nil {
		e.Messages(path, *id, validation.IsValidUserID(*id))
	}
}

func validateGroup(e *check.Errors, id *int64, path *field.Path) {
	if id != nil {
		e.Messages(path, *id, validation.IsValidGroupID(*id))
	}
}

const (
	sysctlSegment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
	maxSysctlName = 253
)

var sysctlName = regexp.MustCompile("^(" + sysctlSegment + "[\\./])*" + sysctlSegment + "$")

func validateSysctls(spec *corev1.PodSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	seen := map[string]bool{}
	for i, s := range spec.SecurityContext.Sysctls {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			e.Required(at, "")
		case len(s.Name) > maxSysctlName || !sysctlName.MatchString(s.Name):
			e.Invalidf(at, s.Name, "must have at most %d characters and match regex %s", maxSysctlName, sysctlName)
		case seen[s.Name]:
			e.Duplicate(at, s.Name)
		}
		if why := hostSysctl(s.Name, spec); why != "" && !opts.hostSysctls {
			e.Invalid(at, s.Name, why)
		}
		seen[s.Name] = true
	}
	return e
}

// hostSysctl tells why a pod that shares a namespace with its host may not set a parameter of it.
func hostSysctl(name string, spec *corev1.PodSpec) string {
	ns, _, _ := sysctl.GetNamespace(name)
	switch {
	case spec.HostNetwork && ns == sysctl.NetNamespace:
		return "may not be specified when 'hostNetwork' is true"
	case spec.HostIPC && ns == sysctl.IPCNamespace:
		return "may not be specified when 'hostIPC' is true"
	}
	return ""
}

func validateSeccomp(p *corev1.SeccompProfile, path *field.Path) (e check.Errors) {
	if p == nil {
		return nil
	}
	if p.Type == "" {
		e.Required(path.Child("type"), "type is required when seccompProfile is set")
	} else {
		check.OneOf(&e, path.Child("type"), p.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	at := path.Child("localhostProfile")
	switch {
	case p.Type != corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			e.Invalid(at, p, "can only be set when seccomp type is Localhost")
		}
	case p.LocalhostProfile == nil:
		e.Required(at, "must be set when seccomp type is Localhost")
	default:
		e.Add(validateDescending(*p.LocalhostProfile, at)...)
	}
	return e
}

const maxAppArmorProfile = 4095 // a path's length

func validateAppArmor(p *corev1.AppArmorProfile, path *field.Path) (e check.Errors) {
	if p == nil {
		return nil
	}
	at := path.Child("localhostProfile")
	const missing = "must be set when AppArmor type is Localhost"
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil {
			e.Required(at, missing)
			return e
		}
		name := *p.LocalhostProfile
		if trimmed := strings.TrimSpace(name); trimmed != name {
			e.Invalid(at, name, "must not be padded with whitespace")
		} else if trimmed == "" {
			e.Required(at, missing)
		}
		if len(name) > maxAppArmorProfile {
			e.TooLong(at, maxAppArmorProfile)
		}
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			e.Invalid(at, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		e.Required(path.Child("type"), "type is required when appArmorProfile is set")
	default:
		check.OneOf(&e, path.Child("type"), p.Type, corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
	return e
}

func validateSecurityContext(sc *corev1.SecurityContext, path *field.Path, hostUsers bool) (e check.Errors) {
	if sc == nil {
		return nil
	}
	validateUser(&e, sc.RunAsUser, path.Child("runAsUser"))
	validateGroup(&e, sc.RunAsGroup, path.Child("runAsGroup"))
	if p := sc.ProcMount; p != nil {
		check.OneOf(&e, path.Child("procMount"), *p, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if hostUsers && *p == corev1.UnmaskedProcMount {
			e.Invalid(path.Child("procMount"), p, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	e.Add(validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	if escalate := sc.AllowPrivilegeEscalation; escalate != nil && !*escalate {
		if isPrivileged(sc) {
			e.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if sc.Capabilities != nil {
			for _, c := range sc.Capabilities.Add {
				if c == "CAP_SYS_ADMIN" {
					e.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
				}
			}
		}
	}
	e.Add(validateWindowsOptions(sc.WindowsOptions, path.Child("windowsOptions"))...)
	e.Add(validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
	return e
}

// validateHostUsers refuses what a pod in a user namespace of its own cannot share with its host.
func validateHostUsers(spec *corev1.PodSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	if spec.HostUsers == nil || *spec.HostUsers {
		return nil
	}
	const why = "when `hostUsers` is false"
	if spec.HostNetwork && !opts.hostNetworkWithoutUsers {
		e.Forbidden(path.Child("hostNetwork"), why)
	}
	if spec.HostPID {
		e.Forbidden(path.Child("HostPID"), why)
	}
	if spec.HostIPC {
		e.Forbidden(path.Child("HostIPC"), why)
	}
	if opts.volumeDevicesWithoutUser {
		return e
	}
	for place, c := range allContainers(spec) {
		if len(c.VolumeDevices) > 0 {
			e.Forbidden(place.path(path).Child("volumeDevices"), why)
		}
	}
	return e
}

// validateProfileAnnotations checks the annotations in which seccomp and AppArmor profiles were kept before they had fields.
func validateProfileAnnotations(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	if len(annotations) == 0 {
		return nil
	}
	if p, there := annotations[corev1.SeccompPodAnnotationKey]; there {
		e.Add(validateSeccompText(p, path.Child(corev1.SeccompPodAnnotationKey))...)
	}
	for key, p := range annotations {
		if strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			e.Add(validateSeccompText(p, path.Child(key))...)
		}
		name, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
		if !ok {
			continue
		}
		if !hasContainer(spec, name) {
			e.Invalid(path.Key(key), name, "container not found")
		}
		if p != "" && p != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault && p != corev1.DeprecatedAppArmorBetaProfileNameUnconfined &&
			!strings.HasPrefix(p, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
			e.Invalid(path.Key(key), p, fmt.Sprintf("invalid AppArmor profile name: %q", p))
		}
	}
	return e
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	for _, c := range allContainers(spec) {
		if c.Name == name {
			return true
		}
	}
	return false
}

func validateSeccompText(p string, path *field.Path) (e check.Errors) {
	switch {
	case p == corev1.SeccompProfileRuntimeDefault, p == corev1.DeprecatedSeccompProfileDockerDefault, p == corev1.SeccompProfileNameUnconfined:
	case strings.HasPrefix(p, corev1.SeccompLocalhostProfileNamePrefix):
		e.Add(validateDescending(strings.TrimPrefix(p, corev1.SeccompLocalhostProfileNamePrefix), path)...)
	default:
		e.Invalid(path, p, "must be a valid seccomp profile")
	}
	return e
}

// validateProfilesAgree refuses annotations and fields that name different profiles.
func validateProfilesAgree(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	if len(annotations) == 0 {
		return nil
	}
	sc := spec.SecurityContext
	if sc != nil {
		if text, there := annotations[corev1.SeccompPodAnnotationKey]; there {
			e.Add(seccompAgrees(text, sc.SeccompProfile, path.Child("securityContext", "seccompProfile"))...)
		}
	}
	for place, c := range allContainers(spec) {
		text, there := annotations[corev1.SeccompContainerAnnotationKeyPrefix+c.Name]
		if there && c.SecurityContext != nil {
			e.Add(seccompAgrees(text, c.SecurityContext.SeccompProfile, place.path(path).Child("securityContext", "seccompProfile"))...)
		}
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		return e
	}
	for place, c := range allContainers(spec) {
		text, there := annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
		if !there {
			continue
		}
		var profile *corev1.AppArmorProfile
		if sc != nil {
			profile = sc.AppArmorProfile
		}
		if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			profile = c.SecurityContext.AppArmorProfile
		}
		e.Add(appArmorAgrees(text, profile, place.path(path).Child("securityContext", "appArmorProfile"))...)
	}
	return e
}

func seccompAgrees(text string, p *corev1.SeccompProfile, path *field.Path) (e check.Errors) {
	if p == nil {
		return nil
	}
	agrees := true
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		agrees = text == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		agrees = text == corev1.SeccompProfileRuntimeDefault || text == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		name, local := strings.CutPrefix(text, corev1.SeccompLocalhostProfileNamePrefix)
		agrees = local
		if local && (p.LocalhostProfile == nil || name != *p.LocalhostProfile) {
			e.Forbidden(path.Child("localhostProfile"), "seccomp profile in annotation and field must match")
		}
	}
	if !agrees {
		e.Forbidden(path.Child("type"), "seccomp type in annotation and field must match")
	}
	return e
}

func appArmorAgrees(text string, p *corev1.AppArmorProfile, path *field.Path) (e check.Errors) {
	if p == nil {
		return nil
	}
	agrees := true
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		agrees = text == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		agrees = text == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		name, local := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		agrees = local
		if local && (p.LocalhostProfile == nil || name != *p.LocalhostProfile) {
			e.Forbidden(path.Child("localhostProfile"), "apparmor profile in annotation and field must match")
		}
	}
	if !agrees {
		e.Forbidden(path.Child("type"), "apparmor type in annotation and field must match")
	}
	return e
}
