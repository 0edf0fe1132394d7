package rbac

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
)

// Escalation is the admission plugin that keeps users from granting what they don't have: writing a role takes all of its rules, or the verb
// "escalate" on it; binding one takes its rules, or the verb "bind" on it. It cannot be switched off.
type Escalation struct {
	Rules *Authorizer
	// Authorizer is asked for escalate and bind.
	Authorizer authorizer.Authorizer
}

var _ admission.Validator = (*Escalation)(nil)

// Name implements admission.Plugin. Upstream checks this where roles are stored.
func (*Escalation) Name() string { return "" }

// Handles implements admission.Selective.
func (*Escalation) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// everything is what it takes to aggregate roles.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Validate implements admission.Validator.
func (e *Escalation) Validate(ctx context.Context, r *admission.Request) error {
	if r.Resource.Group != rbacv1.GroupName || r.Subresource != "" || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	if slices.Contains(r.User.Groups, user.SystemPrivilegedGroup) || onlyBookkeeping(r) {
		return nil
	}
	switch o := r.Object.(type) {
	case *rbacv1.Role:
		return e.role(ctx, r, o.Rules, false)
	case *rbacv1.ClusterRole:
		old, _ := r.OldObject.(*rbacv1.ClusterRole)
		return e.role(ctx, r, o.Rules, aggregates(o) || old != nil && aggregates(old))
	case *rbacv1.RoleBinding:
		return e.bind(ctx, r, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return e.bind(ctx, r, o.RoleRef)
	}
	return nil
}

// onlyBookkeeping tells whether an update changes nothing but what the garbage collector manages.
func onlyBookkeeping(r *admission.Request) bool {
	if r.OldObject == nil {
		return false
	}
	old, next := r.OldObject.(api.Object), r.Object.DeepCopyObject().(api.Object)
	next.SetOwnerReferences(old.GetOwnerReferences())
	next.SetFinalizers(old.GetFinalizers())
	next.SetManagedFields(old.GetManagedFields())
	return equality.Semantic.DeepEqual(next, old)
}

func aggregates(r *rbacv1.ClusterRole) bool {
	return r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

func (e *Escalation) role(ctx context.Context, r *admission.Request, rules []rbacv1.PolicyRule, aggregate bool) error {
	name := r.Name
	if r.Operation == admission.Create {
		name = "" // a creation's path names no object
	}
	if e.authorized(ctx, r, "escalate", r.Resource.Resource, name) {
		return nil
	}
	if err := e.covered(r, rules); err != nil {
		return forbidden(r, err)
	}
	if aggregate && e.covered(r, everything) != nil {
		return forbidden(r, errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func (e *Escalation) bind(ctx context.Context, r *admission.Request, ref rbacv1.RoleRef) error {
	resource := map[string]string{"Role": "roles", "ClusterRole": "clusterroles"}[ref.Kind]
	if resource != "" && e.authorized(ctx, r, "bind", resource, ref.Name) {
		return nil
	}
	rules, err := e.Rules.RoleRules(ref, r.Namespace)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(r.Resource.GroupResource(), ref.Name) // upstream calls the role one of the bindings
	}
	if err != nil {
		return err
	}
	if err := e.covered(r, rules); err != nil {
		return forbidden(r, err)
	}
	return nil
}

func forbidden(r *admission.Request, err error) error {
	return apierrors.NewForbidden(r.Resource.GroupResource(), r.Object.(api.Object).GetName(), err)
}

func (e *Escalation) authorized(ctx context.Context, r *admission.Request, verb, resource, name string) bool {
	decision, _, err := e.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User:            requestor(r),
		Verb:            verb,
		APIGroup:        rbacv1.GroupName,
		APIVersion:      "*",
		Resource:        resource,
		Name:            name,
		Namespace:       r.Namespace,
		ResourceRequest: true,
	})
	return err == nil && decision == authorizer.DecisionAllow
}

func requestor(r *admission.Request) user.Info {
	return &user.DefaultInfo{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra}
}

// covered returns nil if the user holds all the rules, else an error that lists those that are missing.
func (e *Escalation) covered(r *admission.Request, rules []rbacv1.PolicyRule) error {
	u := requestor(r)
	own, resolution := e.Rules.PolicyRules(u, r.Namespace)
	ok, missing := validation.Covers(own, rules)
	if ok {
		return nil
	}
	var lines []string
	for _, m := range merged(missing) {
		lines = append(lines, describeRule(m))
	}
	slices.Sort(lines)
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", u.GetName(), u.GetGroups(), strings.Join(slices.Compact(lines), "\n"))
	if resolution != nil {
		text += fmt.Sprintf("; resolution errors: %v", []error{resolution})
	}
	return errors.New(text)
}

// merged joins rules that differ by verb alone. Each rule has one verb, and one resource and group or one URL.
func merged(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	at := map[string]int{}
	for _, r := range rules {
		key := fmt.Sprintf("%q %q %q", r.APIGroups, r.Resources, r.ResourceNames)
		i, seen := at[key]
		if !seen || len(r.NonResourceURLs) > 0 {
			at[key] = len(out)
			out = append(out, *r.DeepCopy())
			continue
		}
		out[i].Verbs = append(out[i].Verbs, r.Verbs...)
	}
	return out
}

func describeRule(r rbacv1.PolicyRule) string {
	var parts []string
	for _, f := range []struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs}, {"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs},
	} {
		if len(f.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", f.name, f.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
