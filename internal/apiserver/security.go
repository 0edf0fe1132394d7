package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
)

// security is Security, with the plugins sorted by what they do.
type security struct {
	Security
	mutators   []timedPlugin[admission.Mutator]
	validators []timedPlugin[admission.Validator]
}

func newSecurity(sec Security, metrics *admissionMetrics) *security {
	out := &security{Security: sec}
	for _, p := range sec.Admission {
		if m, ok := p.(admission.Mutator); ok {
			out.mutators = append(out.mutators, timed(metrics, m, "admit"))
		}
		if v, ok := p.(admission.Validator); ok {
			out.validators = append(out.validators, timed(metrics, v, "validate"))
		}
	}
	return out
}

// authorize returns nil or upstream's Forbidden.
func (s *Server) authorize(ctx context.Context, a authorizer.Attributes) error {
	_, err := s.decide(ctx, a)
	return undecided(err)
}

// undecided makes an API error of that of an authorizer that could not decide.
func undecided(err error) error {
	if err == nil || apierrors.IsForbidden(err) {
		return err
	}
	return apierrors.NewInternalError(err)
}

// decide is authorize that also tells why, and returns as it is the error of an authorizer that could not decide.
func (s *Server) decide(ctx context.Context, a authorizer.Attributes) (reason string, err error) {
	sec := s.security.Load()
	if sec.Authorizer == nil {
		return "", forbidden(a, "no authorizer is installed yet")
	}
	began := time.Now()
	decision, reason, err := sec.Authorizer.Authorize(ctx, a)
	s.metrics.authorization(decision, err, time.Since(began))
	if decision == authorizer.DecisionAllow {
		return reason, nil
	}
	if err != nil {
		return reason, err
	}
	return reason, forbidden(a, reason)
}

// htmlSafe keeps error texts, which contain what the client sent, from looking like HTML.
var htmlSafe = strings.NewReplacer(`&`, "&amp;", `<`, "&lt;", `>`, "&gt;")

// forbidden words a refusal as upstream does.
func forbidden(a authorizer.Attributes, reason string) error {
	msg := htmlSafe.Replace(forbiddenMessage(a))
	if reason != "" {
		msg += ": " + reason
	}
	gr := schema.GroupResource{Group: a.GetAPIGroup(), Resource: a.GetResource()}
	return apierrors.NewForbidden(gr, a.GetName(), fmt.Errorf("%s", msg))
}

func forbiddenMessage(a authorizer.Attributes) string {
	name := ""
	if u := a.GetUser(); u != nil {
		name = u.GetName()
	}
	if !a.IsResourceRequest() {
		return fmt.Sprintf("User %q cannot %s path %q", name, a.GetVerb(), a.GetPath())
	}
	resource := a.GetResource()
	if sub := a.GetSubresource(); sub != "" {
		resource += "/" + sub
	}
	if ns := a.GetNamespace(); ns != "" {
		return fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", name, a.GetVerb(), resource, a.GetAPIGroup(), ns)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q at the cluster scope", name, a.GetVerb(), resource, a.GetAPIGroup())
}

// engineUser is who the engine acts as.
var engineUser = api.UserInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

func infoOf(u api.UserInfo) user.Info {
	return &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}

func userOf(i user.Info) api.UserInfo {
	if i == nil {
		return api.UserInfo{}
	}
	return api.UserInfo{Name: i.GetName(), UID: i.GetUID(), Groups: i.GetGroups(), Extra: i.GetExtra()}
}

func privileged(u api.UserInfo) bool { return slices.Contains(u.Groups, user.SystemPrivilegedGroup) }

// agentOf is the user agent of a component inside the process: the name that its upstream counterpart goes by.
func agentOf(u api.UserInfo) string {
	switch {
	case u.Name == user.APIServerUser:
		return "kube-apiserver"
	case strings.HasPrefix(u.Name, "system:node:"):
		return "kubelet"
	case strings.HasPrefix(u.Name, "system:serviceaccount:kube-system:"):
		return "kube-controller-manager"
	}
	return strings.TrimPrefix(u.Name, "system:")
}

// managerOf is the field manager of a write that names none: the printable part of the user agent before its first slash, if it has one.
func managerOf(manager, agent string) string {
	if manager != "" {
		return manager
	}
	name, _, _ := strings.Cut(agent, "/")
	var out strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) {
			continue
		}
		if out.Len()+utf8.RuneLen(r) > metav1validation.FieldManagerMaxLength {
			break
		}
		out.WriteRune(r)
	}
	return cmp.Or(out.String(), "unknown")
}
