package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/api"
)

// TokenReviews is the row of authentication.k8s.io/v1 TokenReview.
var TokenReviews = api.Register(&api.Resource{
	Group:    authenticationv1.GroupName,
	Name:     "tokenreviews",
	Singular: "tokenreview",
	Kind:     "TokenReview",
	Versions: []api.Version{{Version: "v1", New: func() api.Object { return &authenticationv1.TokenReview{} }}},
	Verbs:    []string{"create"},
	Create:   reviewToken,
})

func reviewToken(ctx context.Context, env api.Env, o api.Object) (runtime.Object, error) {
	review := o.(*authenticationv1.TokenReview)
	if review.Namespace != "" {
		return nil, apierrors.NewBadRequest("namespace is not allowed on this type: " + review.Namespace)
	}
	if review.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	user, audiences, ok, err := env.Authenticate(ctx, review.Spec.Token, review.Spec.Audiences)
	out := review.DeepCopy() // the rest of a status that the client sent stays, as with upstream
	out.Status.Authenticated = ok
	if err != nil {
		out.Status.Error = err.Error()
	}
	if ok {
		out.Status.User = userInfo(user)
		out.Status.Audiences = audiences
	}
	return out, nil
}

func userInfo(u api.UserInfo) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups, Extra: map[string]authenticationv1.ExtraValue{}}
	for k, v := range u.Extra {
		out.Extra[k] = v
	}
	return out
}
