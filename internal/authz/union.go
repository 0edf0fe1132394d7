package authz

import (
	"context"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/api"
)

// Union asks authorizers in order until one has an opinion. Without any, its answer is no opinion, with all their reasons.
type Union []authorizer.Authorizer

var (
	_ authorizer.Authorizer   = Union{}
	_ authorizer.RuleResolver = Union{}
)

// Authorize implements authorizer.Authorizer.
func (u Union) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	var errs []error
	var reasons []string
	for _, az := range u {
		decision, reason, err := az.Authorize(ctx, a)
		if err != nil {
			errs = append(errs, err)
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if decision != authorizer.DecisionNoOpinion {
			return decision, reason, err
		}
	}
	return authorizer.DecisionNoOpinion, strings.Join(reasons, "\n"), utilerrors.NewAggregate(errs)
}

// RulesFor gathers the rules of all authorizers that know them.
func (u Union) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	var (
		resources    []authorizer.ResourceRuleInfo
		nonResources []authorizer.NonResourceRuleInfo
		incomplete   bool
		errs         []error
	)
	for _, az := range u {
		r, ok := az.(authorizer.RuleResolver)
		if !ok {
			continue
		}
		res, non, more, err := r.RulesFor(ctx, who, namespace)
		resources, nonResources, incomplete = append(resources, res...), append(nonResources, non...), incomplete || more
		if err != nil {
			errs = append(errs, err)
		}
	}
	return resources, nonResources, incomplete, utilerrors.NewAggregate(errs)
}

// Masters lets members of system:masters do everything.
type Masters struct{}

// Authorize implements authorizer.Authorizer.
func (Masters) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if u := a.GetUser(); u != nil && slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// RulesFor implements authorizer.RuleResolver; what masters may do follows from a ClusterRoleBinding, too.
func (Masters) RulesFor(context.Context, user.Info, string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return nil, nil, false, nil
}

// RulesReview answers a SelfSubjectRulesReview. It serves api.Env.
func RulesReview(ctx context.Context, r authorizer.RuleResolver, who api.UserInfo, namespace string) authorizationv1.SubjectRulesReviewStatus {
	u := &user.DefaultInfo{Name: who.Name, UID: who.UID, Groups: who.Groups, Extra: who.Extra}
	resources, nonResources, incomplete, err := r.RulesFor(ctx, u, namespace)
	status := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
		Incomplete:       incomplete,
	}
	for _, rule := range resources {
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{
			Verbs:         rule.GetVerbs(),
			APIGroups:     rule.GetAPIGroups(),
			Resources:     rule.GetResources(),
			ResourceNames: rule.GetResourceNames(),
		})
	}
	for _, rule := range nonResources {
		status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{
			Verbs:           rule.GetVerbs(),
			NonResourceURLs: rule.GetNonResourceURLs(),
		})
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}
