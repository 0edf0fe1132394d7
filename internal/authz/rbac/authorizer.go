package rbac

import (
	"context"
	"fmt"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/client"
)

// Authorizer decides by roles and bindings.
type Authorizer struct {
	index        *index
	roles        client.TypedView[*rbacv1.Role]
	clusterRoles client.TypedView[*rbacv1.ClusterRole]
	wg           sync.WaitGroup
}

var (
	_ authorizer.Authorizer   = (*Authorizer)(nil)
	_ authorizer.RuleResolver = (*Authorizer)(nil)
)

// New returns an authorizer that knows all that is stored now and follows it until ctx ends; Wait then waits for its end.
func New(ctx context.Context, c client.Client) (*Authorizer, error) {
	a := &Authorizer{index: newIndex()}
	x := a.index
	var err error
	a.roles, err = follow(ctx, c, roles, &a.wg, func(r *rbacv1.Role) { x.setRole(objectKey{r.Namespace, r.Name}, r.Rules) }, x.dropRole)
	if err != nil {
		return nil, err
	}
	a.clusterRoles, err = follow(ctx, c, clusterRoles, &a.wg, func(r *rbacv1.ClusterRole) { x.setRole(objectKey{"", r.Name}, r.Rules) }, x.dropRole)
	if err != nil {
		return nil, err
	}
	if _, err = follow(ctx, c, roleBindings, &a.wg, func(b *rbacv1.RoleBinding) {
		x.setBinding(&binding{objectKey{b.Namespace, b.Name}, b.RoleRef, b.Subjects})
	}, x.dropBinding); err != nil {
		return nil, err
	}
	_, err = follow(ctx, c, clusterRoleBindings, &a.wg, func(b *rbacv1.ClusterRoleBinding) {
		x.setBinding(&binding{objectKey{"", b.Name}, b.RoleRef, b.Subjects})
	}, x.dropBinding)
	return a, err
}

// Wait returns when the authorizer's work has ended, after the context given to New has.
func (a *Authorizer) Wait() { a.wg.Wait() }

// WaitForBinding blocks until the authorizer knows a binding: namespace is "" for a ClusterRoleBinding.
func (a *Authorizer) WaitForBinding(ctx context.Context, namespace, name string) error {
	return a.index.wait(ctx, func() bool { return a.index.bindings[objectKey{namespace, name}] != nil })
}

// WaitForRole blocks until the authorizer knows a role: namespace is "" for a ClusterRole.
func (a *Authorizer) WaitForRole(ctx context.Context, namespace, name string) error {
	return a.index.wait(ctx, func() bool { return a.index.roles[objectKey{namespace, name}] != nil })
}

// Authorize implements authorizer.Authorizer.
func (a *Authorizer) Authorize(_ context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	var reason string
	var errs []error
	a.visit(attrs.GetUser(), attrs.GetNamespace(), func(b *binding, s subjectKey, rules []rule, err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		for i := range rules {
			if rules[i].allows(attrs) {
				reason = "RBAC: allowed by " + b.describe(s)
				return false
			}
		}
		return true
	})
	if reason != "" {
		return authorizer.DecisionAllow, reason, nil
	}
	if len(errs) > 0 {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("RBAC: %v", utilerrors.NewAggregate(errs)), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// describe says which binding gives a subject its role.
func (b *binding) describe(s subjectKey) string {
	who := fmt.Sprintf("%s %q", s.kind, s.name)
	if s.kind == rbacv1.ServiceAccountKind {
		who = fmt.Sprintf("%s %q", s.kind, s.name+"/"+s.namespace)
	}
	if b.namespace == "" {
		return fmt.Sprintf("ClusterRoleBinding %q of %s %q to %s", b.name, b.ref.Kind, b.ref.Name, who)
	}
	return fmt.Sprintf("RoleBinding %q of %s %q to %s", b.name+"/"+b.namespace, b.ref.Kind, b.ref.Name, who)
}

// visit calls fn for every binding of a user, those of the cluster first, with its role's rules or the error that it has none,
// until fn returns false.
func (a *Authorizer) visit(u user.Info, namespace string, fn func(b *binding, s subjectKey, rules []rule, err error) bool) {
	if u == nil {
		return
	}
	subjects := subjectsOf(u)
	a.index.mu.RLock()
	defer a.index.mu.RUnlock()
	scopes := []string{""}
	if namespace != "" {
		scopes = append(scopes, namespace)
	}
	for _, scope := range scopes {
		in := a.index.subjects[scope]
		for _, s := range subjects {
			for _, b := range in[s] {
				rules, err := a.index.rulesOf(b.ref, scope)
				if !fn(b, s, rules, err) {
					return
				}
			}
		}
	}
}

func subjectsOf(u user.Info) []subjectKey {
	groups := u.GetGroups()
	out := make([]subjectKey, 0, len(groups)+2)
	out = append(out, subjectKey{kind: rbacv1.UserKind, name: u.GetName()})
	if ns, name, err := serviceaccount.SplitUsername(u.GetName()); err == nil {
		out = append(out, subjectKey{kind: rbacv1.ServiceAccountKind, namespace: ns, name: name})
	}
	for _, g := range groups {
		out = append(out, subjectKey{kind: rbacv1.GroupKind, name: g})
	}
	return out
}

// rulesOf returns the rules of the role that a binding in a namespace refers to; the caller holds mu.
func (x *index) rulesOf(ref rbacv1.RoleRef, namespace string) ([]rule, error) {
	switch ref.Kind {
	case "ClusterRole":
		namespace = ""
	case "Role":
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
	rules, ok := x.roles[objectKey{namespace, ref.Name}]
	if !ok {
		return nil, apierrors.NewNotFound(roleResource(ref.Kind), ref.Name)
	}
	return rules, nil
}

func roleResource(kind string) schema.GroupResource {
	if kind == "ClusterRole" {
		return clusterRoles.GVR.GroupResource()
	}
	return roles.GVR.GroupResource()
}

// PolicyRules returns all rules of a user in a namespace; with an error, those that could be found.
func (a *Authorizer) PolicyRules(u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	var errs []error
	a.visit(u, namespace, func(_ *binding, _ subjectKey, rules []rule, err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		for _, r := range rules {
			out = append(out, *r.policy)
		}
		return true
	})
	return out, utilerrors.NewAggregate(errs)
}

// RoleRules returns the rules of the role that a binding in a namespace ("" is the cluster) refers to, as it is stored now.
func (a *Authorizer) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "ClusterRole":
		if r, ok := a.clusterRoles.Get("", ref.Name); ok {
			return r.Rules, nil
		}
	case "Role":
		if r, ok := a.roles.Get(namespace, ref.Name); ok {
			return r.Rules, nil
		}
	default:
		return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
	}
	return nil, apierrors.NewNotFound(roleResource(ref.Kind), ref.Name)
}

// RulesFor implements authorizer.RuleResolver.
func (a *Authorizer) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	rules, err := a.PolicyRules(u, namespace)
	var resources []authorizer.ResourceRuleInfo
	var nonResources []authorizer.NonResourceRuleInfo
	for _, r := range rules {
		if len(r.Resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames})
		}
		if len(r.NonResourceURLs) > 0 {
			nonResources = append(nonResources, &authorizer.DefaultNonResourceRuleInfo{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return resources, nonResources, false, err
}
