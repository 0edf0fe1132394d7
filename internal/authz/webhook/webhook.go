package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"clipper.dev/clipper/internal/reviewer"
)

const (
	// maxRemembered bounds how many answers are remembered.
	maxRemembered = 8192
	// maxKeyBytes bounds the length of what a request may say for its answer to be remembered: a client chooses it.
	maxKeyBytes = 10000
)

// Config says how to ask.
type Config struct {
	Name string
	// Version of the review: v1 or v1beta1. Their fields, but for one name, are the same.
	Version string
	// How long answers are remembered; zero remembers none.
	AllowedTTL, RefusedTTL time.Duration
	// OnError is the decision where no answer comes.
	OnError authorizer.Decision
	// Match selects the requests to ask about; nil is all.
	Match   *authorizationcel.CELMatcher
	Metrics *Metrics // nil measures nothing
}

// Webhook asks a server who may do what.
type Webhook struct {
	cfg      Config
	reviewer *reviewer.Reviewer
	answers  *cache.LRUExpireCache // the review's spec as JSON → authorizationv1.SubjectAccessReviewStatus
}

var (
	_ authorizer.Authorizer   = (*Webhook)(nil)
	_ authorizer.RuleResolver = (*Webhook)(nil)
)

// New returns an authorizer.
func New(r *reviewer.Reviewer, cfg Config) *Webhook {
	return &Webhook{cfg: cfg, reviewer: r, answers: cache.NewLRUExpireCache(maxRemembered)}
}

// Authorize implements authorizer.Authorizer.
func (w *Webhook) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	review := reviewOf(a)
	if w.cfg.Match != nil {
		matches, err := w.cfg.Match.Eval(ctx, review)
		if err != nil {
			return w.cfg.OnError, "", err
		}
		if !matches {
			return authorizer.DecisionNoOpinion, "", nil
		}
	}
	status, err := w.ask(ctx, review)
	if err != nil {
		return w.cfg.OnError, "", err
	}
	switch {
	case status.Denied && status.Allowed:
		return authorizer.DecisionDeny, status.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case status.Denied:
		return authorizer.DecisionDeny, status.Reason, nil
	case status.Allowed:
		return authorizer.DecisionAllow, status.Reason, nil
	}
	return authorizer.DecisionNoOpinion, status.Reason, nil
}

// RulesFor implements authorizer.RuleResolver: what a webhook allows cannot be listed.
func (w *Webhook) RulesFor(context.Context, user.Info, string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return nil, nil, true, errors.New("webhook authorizer does not support user rule resolution")
}

// ask finds the answer, if it is remembered, or asks for it.
func (w *Webhook) ask(ctx context.Context, review *authorizationv1.SubjectAccessReview) (authorizationv1.SubjectAccessReviewStatus, error) {
	key, err := json.Marshal(review.Spec)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, fmt.Errorf("encode a review: %w", err)
	}
	if known, ok := w.answers.Get(string(key)); ok {
		return known.(authorizationv1.SubjectAccessReviewStatus), nil
	}
	began := time.Now()
	err = w.post(ctx, review)
	result := resultOf(ctx, err)
	w.cfg.Metrics.evaluated(w.cfg.Name, result, time.Since(began))
	if err != nil {
		if w.cfg.OnError == authorizer.DecisionNoOpinion && ctx.Err() == nil {
			w.cfg.Metrics.failedOpen(w.cfg.Name, result)
		}
		return authorizationv1.SubjectAccessReviewStatus{}, fmt.Errorf("ask the authorization webhook %s: %w", w.cfg.Name, err)
	}
	ttl := w.cfg.RefusedTTL
	if review.Status.Allowed {
		ttl = w.cfg.AllowedTTL
	}
	if ttl > 0 && len(key) <= maxKeyBytes {
		w.answers.Add(string(key), review.Status, ttl)
	}
	return review.Status, nil
}

// post sends a review in the version that is wanted: v1beta1 calls the groups "group".
func (w *Webhook) post(ctx context.Context, review *authorizationv1.SubjectAccessReview) error {
	review.APIVersion, review.Kind = "authorization.k8s.io/"+w.cfg.Version, "SubjectAccessReview"
	if w.cfg.Version != "v1beta1" {
		return w.reviewer.Review(ctx, review)
	}
	older := olderReview{TypeMeta: review.TypeMeta, Spec: olderSpec{SubjectAccessReviewSpec: review.Spec, Group: review.Spec.Groups}}
	err := w.reviewer.Review(ctx, &older)
	review.Status = older.Status
	return err
}

// olderReview is a SubjectAccessReview of v1beta1.
type olderReview struct {
	metav1.TypeMeta `json:",inline"`
	Spec            olderSpec                                 `json:"spec"`
	Status          authorizationv1.SubjectAccessReviewStatus `json:"status"`
}

type olderSpec struct {
	authorizationv1.SubjectAccessReviewSpec `json:",inline"`
	Group                                   []string `json:"group,omitempty"`
	Groups                                  any      `json:"groups,omitempty"` // hides that of v1
}

func resultOf(ctx context.Context, err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "success"
	case ctx.Err() != nil:
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "error"
}
