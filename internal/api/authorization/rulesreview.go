package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/api"
)

// SelfSubjectRulesReviews is the row of authorization.k8s.io/v1 SelfSubjectRulesReview.
var SelfSubjectRulesReviews = review("selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview", false,
	func() api.Object { return &authorizationv1.SelfSubjectRulesReview{} }, reviewRules)

func reviewRules(ctx context.Context, env api.Env, o api.Object) (runtime.Object, error) {
	namespace := o.(*authorizationv1.SelfSubjectRulesReview).Spec.Namespace
	if namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	rules, err := env.RulesFor(ctx, env.User(ctx), namespace)
	if err != nil {
		return nil, err
	}
	status, ok := rules.(authorizationv1.SubjectRulesReviewStatus)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("rules came as %T", rules))
	}
	return &authorizationv1.SelfSubjectRulesReview{Status: status}, nil
}
