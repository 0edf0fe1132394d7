package core

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// A containerCheck is the validation of a pod's containers, which refer to its volumes and claims.
type containerCheck struct {
	spec      *corev1.PodSpec
	volumes   map[string]*corev1.VolumeSource
	claims    sets.Set[string]
	opts      *podOptions
	hostUsers bool
}

func (c containerCheck) containers(path *field.Path) (e check.Errors) {
	if len(c.spec.Containers) == 0 {
		e.Required(path, "")
		return e
	}
	names := sets.New[string]()
	for i := range c.spec.Containers {
		ctr, at := &c.spec.Containers[i], path.Index(i)
		e.Add(c.common(ctr, at)...)
		if names.Has(ctr.Name) {
			e.Duplicate(at.Child("name"), ctr.Name)
		}
		names.Insert(ctr.Name)
		e.Add(c.health(ctr, at)...)
		e.Add(validateRestartRules(ctr, at)...)
	}
	e.Add(validateUniqueHostPorts(c.spec.Containers, path)...)
	return e
}

func (c containerCheck) initContainers(path *field.Path) (e check.Errors) {
	names := sets.New[string]()
	for i := range c.spec.Containers {
		names.Insert(c.spec.Containers[i].Name)
	}
	for i := range c.spec.InitContainers {
		ctr, at := &c.spec.InitContainers[i], path.Index(i)
		e.Add(c.common(ctr, at)...)
		if ctr.RestartPolicy != nil {
			e.Add(validateRestartRules(ctr, at)...)
		} else if len(ctr.RestartPolicyRules) > 0 {
			e.Required(at.Child("restartPolicy"), rulesNeedPolicy)
		}
		if names.Has(ctr.Name) {
			e.Duplicate(at.Child("name"), ctr.Name)
		} else if ctr.Name != "" {
			names.Insert(ctr.Name)
		}
		e.Add(validateUniqueHostPorts(c.spec.InitContainers[i:i+1], path)...)
		if isSidecar(ctr) {
			e.Add(c.health(ctr, at)...)
			continue
		}
		for _, part := range []struct {
			name    string
			present bool
		}{
			{"lifecycle", ctr.Lifecycle != nil}, {"livenessProbe", ctr.LivenessProbe != nil},
			{"readinessProbe", ctr.ReadinessProbe != nil}, {"startupProbe", ctr.StartupProbe != nil},
		} {
			if part.present {
				e.Forbidden(at.Child(part.name), "may not be set for init containers without restartPolicy=Always")
			}
		}
		for j, p := range ctr.ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer && !c.opts.restartingInitResize {
				e.Invalid(at.Child("resizePolicy").Index(j).Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers")
			}
		}
	}
	return e
}

// What an ephemeral container may have, by the names of the fields.
var ephemeralFields = []string{
	"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY",
}

func (c containerCheck) ephemeralContainers(path *field.Path) (e check.Errors) {
	if len(c.spec.EphemeralContainers) == 0 {
		return nil
	}
	targets, names := sets.New[string](), sets.New[string]()
	for _, list := range [][]corev1.Container{c.spec.Containers, c.spec.InitContainers} {
		for i := range list {
			targets.Insert(list[i].Name)
			names.Insert(list[i].Name)
		}
	}
	for i := range c.spec.EphemeralContainers {
		ec, at := &c.spec.EphemeralContainers[i], path.Index(i)
		e.Add(c.common(asContainer(ec), at)...)
		e.Add(validateTrimmedImage(ec.Image, at)...)
		if names.Has(ec.Name) {
			e.Duplicate(at.Child("name"), ec.Name)
		}
		names.Insert(ec.Name)
		if ec.TargetContainerName != "" && !targets.Has(ec.TargetContainerName) {
			e.NotFound(at.Child("targetContainerName"), ec.TargetContainerName)
		}
		e.Add(validateOnlyFields(ec.EphemeralContainerCommon, ephemeralFields, "cannot be set for an Ephemeral Container", at)...)
		for j, m := range ec.VolumeMounts {
			if m.SubPath != "" {
				e.Forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), "cannot be set for an Ephemeral Container")
			}
			if m.SubPathExpr != "" {
				e.Forbidden(at.Child("volumeMounts").Index(j).Child("subPathExpr"), "cannot be set for an Ephemeral Container")
			}
		}
	}
	return e
}

// validateOnlyFields refuses fields of a struct that are not among the allowed ones.
func validateOnlyFields(value any, allowed []string, detail string, path *field.Path) (e check.Errors) {
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if slices.Contains(allowed, name) || v.Field(i).IsZero() {
			continue
		}
		first, size := utf8.DecodeRuneInString(name)
		e.Forbidden(path.Child(string(unicode.ToLower(first))+name[size:]), detail)
	}
	return e
}

// validateTrimmedImage is for pods only: old templates may have spaces around their images.
func validateTrimmedImage(image string, path *field.Path) (e check.Errors) {
	if strings.TrimSpace(image) != image {
		e.Invalid(path.Child("image"), image, "must not have leading or trailing whitespace")
	}
	return e
}

var pullPolicies = []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}

// common checks what all three kinds of containers share.
func (c containerCheck) common(ctr *corev1.Container, path *field.Path) (e check.Errors) {
	if ctr.Name == "" {
		e.Required(path.Child("name"), "")
	} else {
		e.Label(path.Child("name"), ctr.Name)
	}
	e.NonEmpty(path.Child("image"), ctr.Image)
	check.Enum(&e, path.Child("terminationMessagePolicy"), ctr.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	e.Add(validateContainerPorts(ctr.Ports, path.Child("ports"))...)
	e.Add(validateEnv(ctr.Env, path.Child("env"))...)
	e.Add(validateEnvFrom(ctr.EnvFrom, path.Child("envFrom"))...)
	e.Add(validateMounts(ctr, c.volumes, path.Child("volumeMounts"))...)
	e.Add(validateDevices(ctr, c.volumes, path.Child("volumeDevices"))...)
	check.Enum(&e, path.Child("imagePullPolicy"), ctr.ImagePullPolicy, pullPolicies...)
	e.Add(requirementsCheck{validateContainerResourceName, c.claims, c.opts}.validate(&ctr.Resources, path.Child("resources"))...)
	e.Add(c.resizePolicy(ctr.ResizePolicy, path.Child("resizePolicy"))...)
	e.Add(validateSecurityContext(ctr.SecurityContext, path.Child("securityContext"), c.hostUsers)...)
	return e
}

// health checks probes and hooks.
func (c containerCheck) health(ctr *corev1.Container, path *field.Path) (e check.Errors) {
	grace := c.spec.TerminationGracePeriodSeconds
	e.Add(validateLifecycle(ctr.Lifecycle, grace, c.spec.OS, path.Child("lifecycle"))...)
	e.Add(validateProbe(ctr.LivenessProbe, livenessProbe, path)...)
	e.Add(validateProbe(ctr.ReadinessProbe, readinessProbe, path)...)
	e.Add(validateProbe(ctr.StartupProbe, startupProbe, path)...)
	return e
}

func (c containerCheck) resizePolicy(policies []corev1.ContainerResizePolicy, path *field.Path) (e check.Errors) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range policies {
		if seen[p.ResourceName] {
			e.Duplicate(path.Index(i), p.ResourceName)
		}
		seen[p.ResourceName] = true
		check.Enum(&e, path, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		check.Enum(&e, path, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		if c.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			e.Invalid(path, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
		}
	}
	return e
}

const (
	maxRestartRules     = 20
	maxRestartExitCodes = 255
	rulesNeedPolicy     = "must specify restartPolicy when restart rules are used"
)

// validateRestartRules checks a container's own restart policy and its exceptions by exit code.
func validateRestartRules(ctr *corev1.Container, path *field.Path) (e check.Errors) {
	policy, rules := ctr.RestartPolicy, ctr.RestartPolicyRules
	if policy == nil && len(rules) > 0 {
		e.Required(path.Child("restartPolicy"), rulesNeedPolicy)
	}
	if policy != nil {
		check.OneOf(&e, path.Child("restartPolicy"), *policy, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	}
	if len(rules) > maxRestartRules {
		e.TooMany(path.Child("restartPolicyRules"), len(rules), maxRestartRules)
	}
	for i, rule := range rules {
		at := path.Child("restartPolicyRules").Index(i)
		check.OneOf(&e, at.Child("action"), rule.Action, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
		codes := rule.ExitCodes
		if codes == nil {
			e.Required(at.Child("exitCodes"), "must be specified")
			continue
		}
		check.OneOf(&e, at.Child("exitCodes", "operator"), codes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		if len(codes.Values) > maxRestartExitCodes {
			e.TooMany(at.Child("exitCodes", "values"), len(codes.Values), maxRestartExitCodes)
		}
	}
	return e
}

func validateContainerPorts(ports []corev1.ContainerPort, path *field.Path) (e check.Errors) {
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				e.Messages(at.Child("name"), p.Name, msgs)
			} else if names.Has(p.Name) {
				e.Duplicate(at.Child("name"), p.Name)
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			e.Required(at.Child("containerPort"), "")
		} else {
			e.Port(at.Child("containerPort"), p.ContainerPort)
		}
		if p.HostPort != 0 {
			e.Port(at.Child("hostPort"), p.HostPort)
		}
		check.Enum(&e, at.Child("protocol"), p.Protocol, protocols...)
	}
	return e
}

func validateUniqueHostPorts(containers []corev1.Container, path *field.Path) (e check.Errors) {
	seen := sets.New[string]()
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if seen.Has(key) {
				e.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key)
			}
			seen.Insert(key)
		}
	}
	return e
}
