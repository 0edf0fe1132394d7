package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// SubjectAccessReviews is the row of authorization.k8s.io/v1 SubjectAccessReview.
var SubjectAccessReviews = review("subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview", false,
	func() api.Object { return &authorizationv1.SubjectAccessReview{} }, reviewSubject)

// LocalSubjectAccessReviews is the row of authorization.k8s.io/v1 LocalSubjectAccessReview.
var LocalSubjectAccessReviews = review("localsubjectaccessreviews", "localsubjectaccessreview", "LocalSubjectAccessReview", true,
	func() api.Object { return &authorizationv1.LocalSubjectAccessReview{} }, reviewLocal)

// SelfSubjectAccessReviews is the row of authorization.k8s.io/v1 SelfSubjectAccessReview.
var SelfSubjectAccessReviews = review("selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview", false,
	func() api.Object { return &authorizationv1.SelfSubjectAccessReview{} }, reviewSelf)

func review(name, singular, kind string, namespaced bool, empty func() api.Object, create func(context.Context, api.Env, api.Object) (runtime.Object, error)) *api.Resource {
	return api.Register(&api.Resource{
		Group:      authorizationv1.GroupName,
		Name:       name,
		Singular:   singular,
		Kind:       kind,
		Namespaced: namespaced,
		Versions:   []api.Version{{Version: "v1", New: empty}},
		Verbs:      []string{"create"},
		Create:     create,
	})
}

func reviewSubject(ctx context.Context, env api.Env, o api.Object) (runtime.Object, error) {
	r := o.(*authorizationv1.SubjectAccessReview)
	errs := validateSpec(r.Spec)
	errs = append(errs, emptyMeta(r.ObjectMeta, "", "must be empty")...)
	if len(errs) > 0 {
		return nil, invalid(errs)
	}
	out := r.DeepCopy()
	out.Status = decide(ctx, env, subjectOf(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return out, nil
}

func reviewLocal(ctx context.Context, env api.Env, o api.Object) (runtime.Object, error) {
	r := o.(*authorizationv1.LocalSubjectAccessReview)
	errs := validateSpec(r.Spec)
	errs = append(errs, emptyMeta(r.ObjectMeta, r.Namespace, "must be empty except for namespace")...)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		errs.Invalid(field.NewPath("spec.resourceAttributes.namespace"), a.Namespace, "must match metadata.namespace")
	}
	if a := r.Spec.NonResourceAttributes; a != nil {
		errs.Invalid(field.NewPath("spec.nonResourceAttributes"), shown(a), "disallowed on this kind of request")
	}
	if len(errs) > 0 {
		return nil, invalid(errs)
	}
	if r.Namespace == "" {
		return nil, apierrors.NewBadRequest("namespace is required on this type: ")
	}
	out := r.DeepCopy()
	out.Status = decide(ctx, env, subjectOf(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return out, nil
}

func reviewSelf(ctx context.Context, env api.Env, o api.Object) (runtime.Object, error) {
	r := o.(*authorizationv1.SelfSubjectAccessReview)
	errs := validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	errs = append(errs, validateSelectors(r.Spec.ResourceAttributes)...)
	errs = append(errs, emptyMeta(r.ObjectMeta, "", "must be empty")...)
	if len(errs) > 0 {
		return nil, invalid(errs)
	}
	out := r.DeepCopy()
	out.Status = decide(ctx, env, env.User(ctx), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return out, nil
}

func subjectOf(s authorizationv1.SubjectAccessReviewSpec) api.UserInfo {
	u := api.UserInfo{Name: s.User, UID: s.UID, Groups: s.Groups}
	if s.Extra != nil {
		u.Extra = map[string][]string{}
	}
	for k, v := range s.Extra {
		u.Extra[k] = v
	}
	return u
}

// invalid is upstream's error for reviews, which names no kind.
func invalid(errs check.Errors) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", field.ErrorList(errs))
}

func validateSpec(s authorizationv1.SubjectAccessReviewSpec) check.Errors {
	errs := validateAttributes(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs.Invalid(field.NewPath("spec", "user"), s.User, "at least one of user or group must be specified")
	}
	return append(errs, validateSelectors(s.ResourceAttributes)...)
}

func validateAttributes(res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) check.Errors {
	var errs check.Errors
	at := field.NewPath("spec")
	if res != nil && non != nil {
		errs.Invalid(at.Child("nonResourceAttributes"), shown(non), "cannot be specified in combination with resourceAttributes")
	}
	if res == nil && non == nil {
		errs.Invalid(at.Child("resourceAttributes"), shown(non), "exactly one of nonResourceAttributes or resourceAttributes must be specified")
	}
	return errs
}

// shownPath is NonResourceAttributes as upstream's messages show them: with the Go names of their fields.
type shownPath struct{ Path, Verb string }

func shown(a *authorizationv1.NonResourceAttributes) *shownPath {
	if a == nil {
		return nil
	}
	return &shownPath{a.Path, a.Verb}
}

func emptyMeta(m metav1.ObjectMeta, namespace, text string) check.Errors {
	var errs check.Errors
	rest := m
	rest.ManagedFields = nil
	if namespace != "" {
		rest.Namespace = ""
	}
	if !equality.Semantic.DeepEqual(rest, metav1.ObjectMeta{}) {
		errs.Invalid(field.NewPath("metadata"), m, text)
	}
	return errs
}

// decide asks the authorizer.
func decide(ctx context.Context, env api.Env, who api.UserInfo, res *authorizationv1.ResourceAttributes, non *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := api.AccessAttributes{User: who}
	var problems string
	if res != nil {
		a.Verb, a.Group, a.Version, a.Resource, a.Subresource = res.Verb, res.Group, res.Version, res.Resource, res.Subresource
		a.Namespace, a.Name = res.Namespace, res.Name
		if a.Version == "" {
			a.Version = "*"
		}
		a.FieldSelector, a.LabelSelector, problems = selectorsOf(res)
	} else {
		a.NonResourcePath, a.Verb = non.Path, non.Verb
	}
	allowed, denied, reason, err := env.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{Allowed: allowed, Denied: denied, Reason: reason, EvaluationError: problems}
	if err != nil {
		status.EvaluationError = err.Error()
		if problems != "" {
			status.EvaluationError = fmt.Sprintf("%v; %s", err, problems)
		}
	}
	return status
}
