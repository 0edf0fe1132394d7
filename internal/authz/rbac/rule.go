package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// matcher is a list of which "*" matches everything.
type matcher struct {
	all   bool
	items []string
}

func newMatcher(items []string) matcher {
	return matcher{all: slices.Contains(items, rbacv1.VerbAll), items: items}
}

func (m matcher) has(s string) bool { return m.all || slices.Contains(m.items, s) }

// rule is a PolicyRule, compiled.
type rule struct {
	policy    *rbacv1.PolicyRule
	verbs     matcher
	groups    matcher
	resources matcher
	subs      []string // of "*/status": status
}

func compile(policies []rbacv1.PolicyRule) []rule {
	out := make([]rule, len(policies))
	for i := range policies {
		p := &policies[i]
		r := rule{policy: p, verbs: newMatcher(p.Verbs), groups: newMatcher(p.APIGroups), resources: newMatcher(p.Resources)}
		for _, res := range p.Resources {
			if sub, ok := strings.CutPrefix(res, "*/"); ok {
				r.subs = append(r.subs, sub)
			}
		}
		out[i] = r
	}
	return out
}

// allows tells whether the rule covers a request.
func (r *rule) allows(a authorizer.Attributes) bool {
	if !r.verbs.has(a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return pathAllowed(r.policy.NonResourceURLs, a.GetPath())
	}
	return r.groups.has(a.GetAPIGroup()) && r.resourceAllowed(a.GetResource(), a.GetSubresource()) &&
		(len(r.policy.ResourceNames) == 0 || slices.Contains(r.policy.ResourceNames, a.GetName()))
}

func (r *rule) resourceAllowed(resource, sub string) bool {
	if r.resources.all {
		return true
	}
	if sub == "" {
		return slices.Contains(r.resources.items, resource)
	}
	for _, item := range r.resources.items {
		if len(item) == len(resource)+1+len(sub) && strings.HasPrefix(item, resource) && item[len(resource)] == '/' && strings.HasSuffix(item, sub) {
			return true
		}
	}
	return slices.Contains(r.subs, sub)
}

func pathAllowed(urls []string, path string) bool {
	for _, u := range urls {
		if u == rbacv1.NonResourceAll || u == path {
			return true
		}
		if prefix, ok := strings.CutSuffix(u, "*"); ok && strings.HasPrefix(path, strings.TrimRight(prefix, "*")) {
			return true
		}
	}
	return false
}

// Matcher returns a function that tells whether any of the rules covers a request.
func Matcher(rules []rbacv1.PolicyRule) func(authorizer.Attributes) bool {
	compiled := compile(rules)
	return func(a authorizer.Attributes) bool {
		return slices.ContainsFunc(compiled, func(r rule) bool { return r.allows(a) })
	}
}
