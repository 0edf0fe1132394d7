package core

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// validateOS refuses what the pod's operating system does not have.
func validateOS(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	if spec.OS == nil {
		return nil
	}
	switch spec.OS.Name {
	case "":
		e.Required(path.Child("os", "name"), "")
	case corev1.Linux:
		e.Add(validateLinux(spec, path)...)
	case corev1.Windows:
		e.Add(validateWindows(spec, path)...)
	default:
		check.OneOf(&e, path.Child("os"), spec.OS.Name, corev1.Linux, corev1.Windows)
	}
	return e
}

func validateLinux(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	const why = "windows options cannot be set for a linux pod"
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		e.Forbidden(path.Child("securityContext", "windowsOptions"), why)
	}
	for place, c := range allContainers(spec) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			e.Forbidden(place.path(path).Child("securityContext", "windowsOptions"), why)
		}
	}
	return e
}

func validateWindows(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	refuse := func(present bool, at *field.Path, names ...string) {
		if present {
			e.Forbidden(at.Child(names[0], names[1:]...), "cannot be set for a windows pod")
		}
	}
	if sc := spec.SecurityContext; sc != nil {
		at := path.Child("securityContext")
		refuse(sc.AppArmorProfile != nil, at, "appArmorProfile")
		refuse(sc.SELinuxOptions != nil, at, "seLinuxOptions")
		refuse(spec.HostUsers != nil, path, "hostUsers")
		refuse(spec.HostPID, path, "hostPID")
		refuse(spec.HostIPC, path, "hostIPC")
		refuse(sc.SeccompProfile != nil, at, "seccompProfile")
		refuse(sc.FSGroup != nil, at, "fsGroup")
		refuse(sc.FSGroupChangePolicy != nil, at, "fsGroupChangePolicy")
		refuse(len(sc.Sysctls) > 0, at, "sysctls")
		refuse(spec.ShareProcessNamespace != nil, path, "shareProcessNamespace")
		refuse(sc.RunAsUser != nil, at, "runAsUser")
		refuse(sc.RunAsGroup != nil, at, "runAsGroup")
		refuse(sc.SupplementalGroups != nil, at, "supplementalGroups")
		refuse(sc.SupplementalGroupsPolicy != nil, at, "supplementalGroupsPolicy")
		refuse(sc.SELinuxChangePolicy != nil, at, "seLinuxChangePolicy")
	}
	for place, c := range allContainers(spec) {
		sc := c.SecurityContext
		if sc == nil {
			continue
		}
		at := place.path(path).Child("securityContext")
		refuse(sc.AppArmorProfile != nil, at, "appArmorProfile")
		refuse(sc.SELinuxOptions != nil, at, "seLinuxOptions")
		refuse(sc.SeccompProfile != nil, at, "seccompProfile")
		refuse(sc.Capabilities != nil, at, "capabilities")
		refuse(sc.ReadOnlyRootFilesystem != nil, at, "readOnlyRootFilesystem")
		refuse(sc.Privileged != nil, at, "privileged")
		refuse(sc.AllowPrivilegeEscalation != nil, at, "allowPrivilegeEscalation")
		refuse(sc.ProcMount != nil, at, "procMount")
		refuse(sc.RunAsUser != nil, at, "runAsUser")
		refuse(sc.RunAsGroup != nil, at, "runAsGroup")
	}
	return e
}

const (
	maxGMSASpec       = 64 << 10
	maxWindowsDomain  = 256
	maxWindowsAccount = 104
)

var (
	controlChars   = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSName    = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	windowsDNSName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	badAccount     = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	dotsAndSpaces  = regexp.MustCompile(`^[\. ]+$`)
)

func validateWindowsOptions(o *corev1.WindowsSecurityContextOptions, path *field.Path) (e check.Errors) {
	if o == nil {
		return nil
	}
	if n := o.GMSACredentialSpecName; n != nil {
		e.Subdomain(path.Child("gmsaCredentialSpecName"), *n)
	}
	if s := o.GMSACredentialSpec; s != nil {
		if *s == "" {
			e.Invalid(path.Child("gmsaCredentialSpec"), s, "gmsaCredentialSpec cannot be an empty string")
		} else if len(*s) > maxGMSASpec {
			e.Invalid(path.Child("gmsaCredentialSpec"), s, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", maxGMSASpec>>10))
		}
	}
	if n := o.RunAsUserName; n != nil {
		for _, msg := range windowsUserName(*n) {
			e.Invalid(path.Child("runAsUserName"), n, msg)
		}
	}
	return e
}

// windowsUserName tells what is wrong with the name of an account, with or without a domain before a backslash.
func windowsUserName(name string) (msgs []string) {
	domain, user, qualified := strings.Cut(name, `\`)
	switch {
	case name == "":
		return []string{"runAsUserName cannot be an empty string"}
	case controlChars.MatchString(name):
		return []string{"runAsUserName cannot contain control characters"}
	case strings.Count(name, `\`) > 1:
		return []string{"runAsUserName cannot contain more than one backslash"}
	case !qualified:
		domain, user = "", name
	}
	if len(domain) >= maxWindowsDomain {
		msgs = append(msgs, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxWindowsDomain))
	}
	if qualified && !netBIOSName.MatchString(domain) && !windowsDNSName.MatchString(domain) {
		msgs = append(msgs, "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	if user == "" {
		msgs = append(msgs, "runAsUserName's User cannot be empty")
	} else if len(user) > maxWindowsAccount {
		msgs = append(msgs, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxWindowsAccount))
	}
	if dotsAndSpaces.MatchString(user) {
		msgs = append(msgs, "runAsUserName's User cannot contain only periods or spaces")
	}
	if badAccount.MatchString(user) {
		msgs = append(msgs, `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
	return msgs
}

// validateHostProcess requires that all containers of a pod are processes of a Windows host, or none.
func validateHostProcess(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	option := func(o *corev1.WindowsSecurityContextOptions) *bool {
		if o == nil {
			return nil
		}
		return o.HostProcess
	}
	var whole *bool
	if spec.SecurityContext != nil {
		whole = option(spec.SecurityContext.WindowsOptions)
	}
	all, host := 0, 0
	for place, c := range allContainers(spec) {
		all++
		own := whole
		if c.SecurityContext != nil {
			if o := option(c.SecurityContext.WindowsOptions); o != nil {
				own = o
				if whole != nil && *whole != *o {
					e.Invalidf(place.path(path).Child("securityContext", "windowsOptions", "hostProcess"), *o, "pod hostProcess value must be identical if both are specified, was %v", *whole)
				}
			}
		}
		if own != nil && *own {
			host++
		}
	}
	if host == 0 {
		return e
	}
	if host != all {
		e.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
	}
	if !spec.HostNetwork {
		e.Invalid(path.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers")
	}
	return e
}
