package authentication

import (
	"context"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/api"
)

// SelfSubjectReviews is the row of authentication.k8s.io/v1 SelfSubjectReview.
var SelfSubjectReviews = api.Register(&api.Resource{
	Group:    authenticationv1.GroupName,
	Name:     "selfsubjectreviews",
	Singular: "selfsubjectreview",
	Kind:     "SelfSubjectReview",
	Versions: []api.Version{{Version: "v1", New: func() api.Object { return &authenticationv1.SelfSubjectReview{} }}},
	Verbs:    []string{"create"},
	Create:   reviewSelf,
})

func reviewSelf(ctx context.Context, env api.Env, _ api.Object) (runtime.Object, error) {
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Now())},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(env.User(ctx))},
	}, nil
}
