package authn

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/lru"
)

// An Impersonator decides who may act as whom.
type Impersonator struct {
	az      authorizer.Authorizer
	metrics *ImpersonationMetrics
	last    *lru.Cache // user's name → *mode that last let them
}

// NewImpersonator returns one that asks an authorizer. metrics may be nil.
func NewImpersonator(az authorizer.Authorizer, metrics *ImpersonationMetrics) *Impersonator {
	return &Impersonator{az: az, metrics: metrics, last: lru.New(10_000)}
}

// Impersonate returns whom a request's Impersonate-* headers ask to act as, and by which constrained leave ("" is that of old, which allows
// everything that its holder may do), and removes those headers; nil if they name nobody. The mode that last let the user is tried first, then
// the others from the narrowest on; the first refusal is the answer. Errors are API errors.
func (i *Impersonator) Impersonate(ctx context.Context, h http.Header, request authorizer.Attributes) (as user.Info, constraint string, err error) {
	wanted, err := wantedUser(h)
	if err != nil || wanted == nil {
		return nil, "", err
	}
	if request.GetUser() == nil {
		return nil, "", apierrors.NewInternalError(errors.New("no user found for request"))
	}
	began, name := time.Now(), request.GetUser().GetName()
	var refusal error
	for m := range i.inOrder(name) {
		if !m.applies(wanted, request.GetUser()) {
			continue
		}
		as, err := m.check(ctx, i.metrics.counting(i.az, *m), wanted, request)
		if err == nil {
			i.metrics.tried(m.label(), true, time.Since(began))
			i.last.Add(name, m)
			clearImpersonation(h)
			return as, m.constraint(), nil
		}
		if refusal == nil {
			refusal = err
		}
	}
	i.metrics.tried("", false, time.Since(began))
	return nil, "", refusal
}

// inOrder are all modes, beginning with the one that last let a user.
func (i *Impersonator) inOrder(name string) iter.Seq[*mode] {
	return func(yield func(*mode) bool) {
		first, _ := i.last.Get(name)
		last, _ := first.(*mode)
		if last != nil && !yield(last) {
			return
		}
		for n := range modes {
			if m := &modes[n]; m != last && !yield(m) {
				return
			}
		}
	}
}

// wantedUser is whom the headers name, as they do; nil without a name.
func wantedUser(h http.Header) (*user.DefaultInfo, error) {
	u := &user.DefaultInfo{Name: h.Get(authenticationv1.ImpersonateUserHeader), UID: h.Get(authenticationv1.ImpersonateUIDHeader)}
	u.Groups = append(u.Groups, h[authenticationv1.ImpersonateGroupHeader]...)
	more := u.UID != "" || len(u.Groups) > 0
	for _, header := range slices.Sorted(maps.Keys(h)) {
		field, ok := strings.CutPrefix(header, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		more = true
		if len(h[header]) == 0 {
			continue
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[extraKey(field)] = append(u.Extra[extraKey(field)], h[header]...)
	}
	if u.Name != "" {
		return u, nil
	}
	if more {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("requested %#v without impersonating a user name", u))
	}
	return nil, nil
}

// allowed asks whether something is; if not, the error says so as the engine words all refusals.
func allowed(ctx context.Context, az authorizer.Authorizer, a authorizer.Attributes) error {
	decision, reason, err := az.Authorize(ctx, a)
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case apierrors.IsForbidden(err):
		return err
	case err != nil && reason != "":
		reason = fmt.Sprintf("%v: %s", err, reason)
	case err != nil:
		reason = err.Error()
	}
	return refused(a, reason)
}

func refused(a authorizer.Attributes, reason string) error {
	text := fmt.Sprintf("User %q cannot %s path %q", a.GetUser().GetName(), a.GetVerb(), a.GetPath())
	if a.IsResourceRequest() {
		resource := a.GetResource()
		if a.GetSubresource() != "" {
			resource += "/" + a.GetSubresource()
		}
		where := "at the cluster scope"
		if a.GetNamespace() != "" {
			where = fmt.Sprintf("in the namespace %q", a.GetNamespace())
		}
		text = fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", a.GetUser().GetName(), a.GetVerb(), resource, a.GetAPIGroup(), where)
	}
	text = htmlSafe.Replace(text)
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.GetAPIGroup(), Resource: a.GetResource()}, a.GetName(), errors.New(text))
}

// htmlSafe keeps a text, which contains what the client sent, from looking like HTML.
var htmlSafe = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

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
