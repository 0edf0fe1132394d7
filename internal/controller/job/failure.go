package job

import (
	"fmt"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// matchPolicy returns what a Job's pod failure policy says about a failed pod: the action (empty if no rule matches) and, for
// FailJob, why.
func matchPolicy(job *batchv1.Job, pod *corev1.Pod) (batchv1.PodFailurePolicyAction, string) {
	if job.Spec.PodFailurePolicy == nil || pod.Status.Phase != corev1.PodFailed {
		return "", ""
	}
	for i := range job.Spec.PodFailurePolicy.Rules {
		rule := &job.Spec.PodFailurePolicy.Rules[i]
		if rule.Action == batchv1.PodFailurePolicyActionFailIndex && job.Spec.BackoffLimitPerIndex == nil {
			continue
		}
		if rule.OnExitCodes != nil {
			if c := matchExitCode(rule.OnExitCodes, &pod.Status); c != nil {
				return rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode, rule.Action, i)
			}
			continue
		}
		if c := matchCondition(rule.OnPodConditions, &pod.Status); c != nil {
			return rule.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", pod.Namespace, pod.Name, c.Type, rule.Action, i)
		}
	}
	return "", ""
}

func matchExitCode(r *batchv1.PodFailurePolicyOnExitCodesRequirement, s *corev1.PodStatus) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses} {
		for i := range list {
			t := list[i].State.Terminated
			if t == nil || t.ExitCode == 0 || r.ContainerName != nil && *r.ContainerName != list[i].Name {
				continue
			}
			if slices.Contains(r.Values, t.ExitCode) == (r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return &list[i]
			}
		}
	}
	return nil
}

func matchCondition(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, s *corev1.PodStatus) *corev1.PodCondition {
	for i := range s.Conditions {
		for _, p := range patterns {
			status := p.Status
			if status == "" {
				status = corev1.ConditionTrue
			}
			if p.Type == s.Conditions[i].Type && status == s.Conditions[i].Status {
				return &s.Conditions[i]
			}
		}
	}
	return nil
}

// matchSuccess returns the number of the first rule of a Job's success policy that the indexes satisfy, -1 if none does.
func matchSuccess(job *batchv1.Job, succeeded indexes) int {
	if job.Spec.SuccessPolicy == nil || job.Spec.Completions == nil {
		return -1
	}
	for i, rule := range job.Spec.SuccessPolicy.Rules {
		of, n := indexes(nil), len(succeeded)
		if rule.SucceededIndexes != nil {
			of, n = parseIndexes(*rule.SucceededIndexes, int(*job.Spec.Completions)), 0
			for index := range of {
				if succeeded[index] {
					n++
				}
			}
		}
		switch {
		case rule.SucceededCount != nil:
			if n >= int(*rule.SucceededCount) {
				return i
			}
		case of != nil && n == len(of):
			return i
		}
	}
	return -1
}

// failures returns how often an index has failed with and without counting, as the pod of it that was made last says.
func failures(pod *corev1.Pod) (counted, ignored int) {
	counted, _ = strconv.Atoi(pod.Annotations[batchv1.JobIndexFailureCountAnnotation])
	ignored, _ = strconv.Atoi(pod.Annotations[ignoredAnnotation])
	return counted, ignored
}

// ignoredAnnotation counts failures of an index that the policy ignores.
const ignoredAnnotation = "batch.kubernetes.io/job-index-ignored-failure-count"

// restarts sums the restarts of a pod's containers up, for Jobs whose pods restart in place.
func restarts(pod *corev1.Pod) (n int32) {
	for _, c := range pod.Status.InitContainerStatuses {
		n += c.RestartCount
	}
	for _, c := range pod.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}
