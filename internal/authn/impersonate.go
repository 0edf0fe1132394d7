package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Impersonate returns whom a request's Impersonate-* headers ask to act as, and removes those headers; nil without such headers.
// Each user, group, UID and extra value is authorized by itself. Errors are API errors.
func Impersonate(ctx context.Context, h http.Header, requestor user.Info, az authorizer.Authorizer) (user.Info, error) {
	wants, err := impersonations(h)
	if err != nil || len(wants) == 0 {
		return nil, err
	}
	if requestor == nil {
		return nil, apierrors.NewInternalError(errors.New("no user found for request"))
	}
	as := &user.DefaultInfo{Groups: []string{}, Extra: map[string][]string{}}
	givenGroups := len(h[authenticationv1.ImpersonateGroupHeader]) > 0
	for _, want := range wants {
		attrs := want.attributes(requestor)
		want.apply(as, givenGroups)
		decision, reason, err := az.Authorize(ctx, attrs)
		if err != nil || decision != authorizer.DecisionAllow {
			return nil, refused(attrs, reason)
		}
	}
	as.Groups = withImplied(as.Name, as.Groups)
	clearImpersonation(h)
	return as, nil
}

// refused words a refusal as the engine words all of them.
func refused(a authorizer.AttributesRecord, reason string) error {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	text := fmt.Sprintf("User %q cannot impersonate resource %q in API group %q %s", a.User.GetName(), resource, a.APIGroup, where)
	text = htmlSafe.Replace(text)
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, errors.New(text))
}

// htmlSafe keeps a text, which contains what the client sent, from looking like HTML.
var htmlSafe = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// impersonation is one thing that a request asks to be.
type impersonation struct {
	kind string // "ServiceAccount", "User", "Group", "UserExtra", "UID"
	corev1.ObjectReference
}

func impersonations(h http.Header) ([]impersonation, error) {
	var out []impersonation
	add := func(kind, namespace, name, field, version string) {
		out = append(out, impersonation{kind, corev1.ObjectReference{Kind: kind, Namespace: namespace, Name: name, FieldPath: field, APIVersion: version}})
	}
	name := h.Get(authenticationv1.ImpersonateUserHeader)
	if ns, sa, err := serviceaccount.SplitUsername(name); err == nil {
		add("ServiceAccount", ns, sa, "", "")
	} else if name != "" {
		add("User", "", name, "", "")
	}
	rest := len(out)
	for _, g := range h[authenticationv1.ImpersonateGroupHeader] {
		add("Group", "", g, "", "")
	}
	hasExtra := false
	for _, key := range sortedKeys(h) {
		field, ok := strings.CutPrefix(key, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		hasExtra = true
		for _, v := range h[key] {
			add("UserExtra", "", v, extraKey(field), authenticationv1.SchemeGroupVersion.String())
		}
	}
	if uid := h.Get(authenticationv1.ImpersonateUIDHeader); uid != "" {
		add("UID", "", uid, "", authenticationv1.SchemeGroupVersion.String())
	}
	if name == "" && (len(out) > rest || hasExtra) {
		refs := make([]corev1.ObjectReference, len(out))
		for i, w := range out {
			refs[i] = w.ObjectReference
		}
		return nil, apierrors.NewBadRequest(fmt.Sprintf("requested %v without impersonating a user", refs))
	}
	return out, nil
}

func sortedKeys(h http.Header) []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (w impersonation) attributes(by user.Info) authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{User: by, Verb: "impersonate", Namespace: w.Namespace, Name: w.Name, ResourceRequest: true}
	switch w.kind {
	case "ServiceAccount":
		a.Resource = "serviceaccounts"
	case "User":
		a.Resource = "users"
	case "Group":
		a.Resource = "groups"
	case "UserExtra":
		a.Resource, a.Subresource = "userextras", w.FieldPath
	case "UID":
		a.Resource = "uids"
	}
	if w.APIVersion != "" {
		a.APIGroup, a.APIVersion = authenticationv1.SchemeGroupVersion.Group, authenticationv1.SchemeGroupVersion.Version
	}
	return a
}

func (w impersonation) apply(as *user.DefaultInfo, givenGroups bool) {
	switch w.kind {
	case "ServiceAccount":
		as.Name = serviceaccount.MakeUsername(w.Namespace, w.Name)
		if !givenGroups {
			as.Groups = serviceaccount.MakeGroupNames(w.Namespace)
		}
	case "User":
		as.Name = w.Name
	case "Group":
		as.Groups = append(as.Groups, w.Name)
	case "UserExtra":
		as.Extra[w.FieldPath] = append(as.Extra[w.FieldPath], w.Name)
	case "UID":
		as.UID = w.Name
	}
}

// withImplied adds the group that everybody who is known, or nobody, is in.
func withImplied(name string, groups []string) []string {
	if name == user.Anonymous {
		if slices.Contains(groups, user.AllUnauthenticated) {
			return groups
		}
		return append(groups, user.AllUnauthenticated)
	}
	if slices.Contains(groups, user.AllAuthenticated) || slices.Contains(groups, user.AllUnauthenticated) {
		return groups
	}
	return append(groups, user.AllAuthenticated)
}

func clearImpersonation(h http.Header) {
	for key := range h {
		if strings.HasPrefix(key, "Impersonate-") {
			delete(h, key)
		}
	}
}
