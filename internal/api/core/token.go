package core

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

var tokenRequestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// tokenSubresource issues tokens for a service account.
var tokenSubresource = api.Subresource{
	Name:   "token",
	Verbs:  []string{"create"},
	GVK:    tokenRequestKind,
	New:    func() runtime.Object { return &authenticationv1.TokenRequest{} },
	Create: createToken,
	Body: &api.Resource{
		Group: tokenRequestKind.Group, Name: "serviceaccounts/token", Kind: tokenRequestKind.Kind,
		Versions: []api.Version{{Version: tokenRequestKind.Version, New: func() api.Object { return &authenticationv1.TokenRequest{} }}},
		Default: api.On(func(r *authenticationv1.TokenRequest) {
			set(&r.Spec.ExpirationSeconds, int64(defaultTokenLife.Seconds()))
		}),
	},
}

const (
	defaultTokenLife = time.Hour
	minTokenLife     = 10 * time.Minute
	maxTokenSeconds  = 1 << 32
	// Clients that read their token only once, at their start, are served for a year by tokens that ask for this odd life, as kubelets do
	// for pods without a wish of their own; they are warned about in the audit log after it.
	extendableTokenSeconds = 3607
	extendedTokenLife      = 365 * 24 * time.Hour
)

func createToken(ctx context.Context, env api.Env, parent api.Object, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
	account := parent.(*corev1.ServiceAccount)
	req := body.(*authenticationv1.TokenRequest).DeepCopy()
	if err := matchTokenRequest(req, account); err != nil {
		return nil, err
	}
	now := time.Now()
	req.Name, req.Namespace, req.UID, req.CreationTimestamp = account.Name, account.Namespace, account.UID, metav1.NewTime(now)
	set(&req.Spec.ExpirationSeconds, int64(defaultTokenLife.Seconds()))
	if errs := validateTokenRequest(req); len(errs) > 0 {
		return nil, apierrors.NewInvalid(tokenRequestKind.GroupKind(), "", field.ErrorList(errs))
	}
	ask := api.TokenRequest{
		Namespace: account.Namespace, ServiceAccount: account.Name, ServiceAccountUID: string(account.UID), Audiences: req.Spec.Audiences,
	}
	if err := bindToken(ctx, env, &ask, req.Spec.BoundObjectRef); err != nil {
		return nil, err
	}
	life := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	ask.Expiry = life
	if ask.BoundKind == "Pod" && *req.Spec.ExpirationSeconds == extendableTokenSeconds && len(req.Spec.Audiences) == 0 {
		ask.Expiry, ask.WarnAfter = extendedTokenLife, life
	}
	token, expires, err := env.IssueToken(ctx, ask)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	if expires.Sub(now) < life-time.Second {
		*req.Spec.ExpirationSeconds = int64(expires.Sub(now).Round(time.Second).Seconds())
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = audiencesOf(token)
	}
	req.Status = authenticationv1.TokenRequestStatus{
		Token:               token,
		ExpirationTimestamp: metav1.NewTime(now.Add(time.Duration(*req.Spec.ExpirationSeconds) * time.Second)),
	}
	return req, nil
}

// matchTokenRequest refuses a body that speaks of another service account.
func matchTokenRequest(req *authenticationv1.TokenRequest, account *corev1.ServiceAccount) error {
	meta := field.NewPath("metadata")
	invalid := func(e *field.Error) error {
		return apierrors.NewInvalid(tokenRequestKind.GroupKind(), account.Name, field.ErrorList{e})
	}
	switch {
	case req.Name != "" && req.Name != account.Name:
		return invalid(field.Invalid(meta.Child("name"), req.Name, "must match the service account name if specified"))
	case req.Namespace != "" && req.Namespace != account.Namespace:
		return invalid(field.Invalid(meta.Child("namespace"), req.Namespace, "must match the service account namespace if specified"))
	case req.UID != "" && req.UID != account.UID:
		return apierrors.NewConflict(schema.GroupResource{Group: tokenRequestKind.Group, Resource: tokenRequestKind.Kind}, account.Name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, account.UID))
	}
	return nil
}

func validateTokenRequest(req *authenticationv1.TokenRequest) (e check.Errors) {
	path, seconds := field.NewPath("spec", "expirationSeconds"), *req.Spec.ExpirationSeconds
	if seconds < int64(minTokenLife.Seconds()) {
		e.Invalid(path, seconds, "may not specify a duration less than 10 minutes")
	}
	if seconds > maxTokenSeconds {
		e.Invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")
	}
	return e
}

// bindToken looks up the object with which the token shall die.
func bindToken(ctx context.Context, env api.Env, ask *api.TokenRequest, ref *authenticationv1.BoundObjectReference) error {
	if ref == nil {
		return nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	resource, namespace := map[string]string{"Pod": "pods", "Node": "nodes", "Secret": "secrets"}[gvk.Kind], ask.Namespace
	if gvk.Group != "" || resource == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk.String()))
	}
	if gvk.Kind == "Node" {
		namespace = ""
	}
	if ref.Name == "" {
		return apierrors.NewBadRequest("Name parameter required.")
	}
	if problems := path.IsValidPathSegmentName(ref.Name); len(problems) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", ref.Name, strings.Join(problems, ";")))
	}
	obj, err := env.Client().Get(ctx, corev1.SchemeGroupVersion.WithResource(resource), namespace, ref.Name)
	if err != nil {
		return err
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		if err := bindTokenToPod(ctx, env, ask, pod); err != nil {
			return err
		}
	}
	if ref.UID != "" && ref.UID != obj.GetUID() {
		return apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	ask.BoundKind, ask.BoundName, ask.BoundUID = gvk.Kind, obj.GetName(), string(obj.GetUID())
	return nil
}

func bindTokenToPod(ctx context.Context, env api.Env, ask *api.TokenRequest, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != ask.ServiceAccount {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", ask.ServiceAccount))
	}
	if pod.Spec.NodeName == "" {
		return nil
	}
	ask.NodeName = pod.Spec.NodeName
	node, err := env.Client().Get(ctx, corev1.SchemeGroupVersion.WithResource("nodes"), "", pod.Spec.NodeName)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return apierrors.NewInternalError(err)
	}
	ask.NodeUID = string(node.GetUID())
	return nil
}

// audiencesOf reads from a token for whom its issuer made it when nobody asked for an audience.
func audiencesOf(token string) []string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var several struct {
		Audience []string `json:"aud"`
	}
	if json.Unmarshal(payload, &several) == nil {
		return several.Audience
	}
	var single struct {
		Audience string `json:"aud"`
	}
	if json.Unmarshal(payload, &single) == nil && single.Audience != "" {
		return []string{single.Audience}
	}
	return nil
}
