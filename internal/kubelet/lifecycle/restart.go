package lifecycle

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// IsSidecar tells whether an init container runs beside the regular ones.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// HasSidecar tells whether the pod has such a container.
func HasSidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return IsSidecar(&c) })
}

// restartPolicy returns the policy in force for a container.
func restartPolicy(pod *corev1.Pod, c *corev1.Container) corev1.RestartPolicy {
	if c.RestartPolicy != nil {
		return corev1.RestartPolicy(*c.RestartPolicy)
	}
	return pod.Spec.RestartPolicy
}

// restartsAfter tells whether a container runs again after it has exited with a code. Rules come before policies.
func restartsAfter(pod *corev1.Pod, c *corev1.Container, exitCode int32) bool {
	if rule := matchingRule(c, exitCode); rule != nil {
		switch rule.Action {
		case corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers:
			return true
		}
	}
	switch restartPolicy(pod, c) {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	default:
		return true
	}
}

func matchingRule(c *corev1.Container, exitCode int32) *corev1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		rule := &c.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, exitCode)
		if listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule
		}
	}
	return nil
}

// shouldStart tells whether a container that does not run should be running.
func shouldStart(pod *corev1.Pod, c *corev1.Container, observed *Container) bool {
	switch {
	case pod.DeletionTimestamp != nil:
		return false
	case observed == nil:
		return true
	case observed.State == Running:
		return false
	case observed.State != Exited:
		return true
	}
	return restartsAfter(pod, c, observed.ExitCode)
}

// CanRestart tells whether any regular container of the pod may run a second time.
func CanRestart(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return restartPolicy(pod, &c) != corev1.RestartPolicyNever || len(c.RestartPolicyRules) > 0
	})
}

// couldRestartAll tells whether an exit of some container restarts all of them.
func couldRestartAll(pod *corev1.Pod) bool {
	asks := func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	}
	return slices.ContainsFunc(pod.Spec.Containers, asks) || slices.ContainsFunc(pod.Spec.InitContainers, asks)
}

// triggersRestartAll tells whether a container's exit asks for a restart of the whole pod.
func triggersRestartAll(c *corev1.Container, observed *Container) bool {
	if observed == nil || observed.State != Exited {
		return false
	}
	rule := matchingRule(c, observed.ExitCode)
	return rule != nil && rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// RestartsAll tells whether an exit has asked for a restart of the whole pod that is not finished: the container that asked is still there.
func RestartsAll(pod *corev1.Pod, o *Observed) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; triggersRestartAll(c, o.Container(c.Name)) {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; triggersRestartAll(c, o.Container(c.Name)) {
			return true
		}
	}
	return false
}
