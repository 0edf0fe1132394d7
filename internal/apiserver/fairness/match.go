package fairness

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/apiserver/request"
)

// matches tells whether a schema takes a request: one of its rules names both the user and what is asked.
func matches(s *flowcontrolv1.FlowSchema, r *Request) bool {
	for i := range s.Spec.Rules {
		rule := &s.Spec.Rules[i]
		if matchesUser(rule.Subjects, r.User) && matchesRequest(rule, r.Info) {
			return true
		}
	}
	return false
}

func matchesUser(subjects []flowcontrolv1.Subject, u user.Info) bool {
	for i := range subjects {
		if matchesSubject(&subjects[i], u) {
			return true
		}
	}
	return false
}

func matchesSubject(s *flowcontrolv1.Subject, u user.Info) bool {
	switch {
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		return s.User.Name == flowcontrolv1.NameAll || s.User.Name == u.GetName()
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		return s.Group.Name == flowcontrolv1.NameAll || slices.Contains(u.GetGroups(), s.Group.Name)
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		if s.ServiceAccount.Name != flowcontrolv1.NameAll {
			return serviceaccount.MatchesUsername(s.ServiceAccount.Namespace, s.ServiceAccount.Name, u.GetName())
		}
		rest, ok := strings.CutPrefix(u.GetName(), serviceaccount.ServiceAccountUsernamePrefix)
		if !ok {
			return false
		}
		namespace, _, ok := strings.Cut(rest, serviceaccount.ServiceAccountUsernameSeparator)
		return ok && namespace == s.ServiceAccount.Namespace
	}
	return false
}

func matchesRequest(rule *flowcontrolv1.PolicyRulesWithSubjects, info *request.Info) bool {
	if info.IsResource {
		for i := range rule.ResourceRules {
			if matchesResource(&rule.ResourceRules[i], info) {
				return true
			}
		}
		return false
	}
	for i := range rule.NonResourceRules {
		n := &rule.NonResourceRules[i]
		if has(n.Verbs, flowcontrolv1.VerbAll, info.Verb) && matchesPath(n.NonResourceURLs, info.Path) {
			return true
		}
	}
	return false
}

func matchesResource(rule *flowcontrolv1.ResourcePolicyRule, info *request.Info) bool {
	if !has(rule.Verbs, flowcontrolv1.VerbAll, info.Verb) || !has(rule.APIGroups, flowcontrolv1.APIGroupAll, info.Group) || !hasResource(rule.Resources, info) {
		return false
	}
	if info.Namespace == "" {
		return rule.ClusterScope
	}
	return has(rule.Namespaces, flowcontrolv1.NamespaceEvery, info.Namespace)
}

// has tells whether a list names a value. The wildcard stands alone.
func has(list []string, wildcard, value string) bool {
	return len(list) == 1 && list[0] == wildcard || slices.Contains(list, value)
}

func hasResource(list []string, info *request.Info) bool {
	if len(list) == 1 && list[0] == flowcontrolv1.ResourceAll {
		return true
	}
	for _, name := range list {
		resource, sub, _ := strings.Cut(name, "/")
		if resource == info.Resource && sub == info.Subresource {
			return true
		}
	}
	return false
}

// matchesPath tells whether a list names a path, or a folder that it is in.
func matchesPath(list []string, path string) bool {
	for _, pattern := range list {
		if pattern == flowcontrolv1.NonResourceAll || pattern == path {
			return true
		}
		if folder, under := strings.CutPrefix(path, strings.TrimSuffix(strings.TrimSuffix(pattern, "*"), "/")); under && strings.HasPrefix(folder, "/") {
			return true
		}
	}
	return false
}
