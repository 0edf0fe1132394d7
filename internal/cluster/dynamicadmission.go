package cluster

import (
	"context"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/admission/policy"
	"clipper.dev/clipper/internal/admission/webhook"
	"clipper.dev/clipper/internal/expression"
	"clipper.dev/clipper/internal/hook"
)

// dynamicAdmission makes the plugins of policies and webhooks, in upstream's order.
func (p *controlPlane) dynamicAdmission(ctx context.Context, hooks *hook.Caller) ([]admission.Plugin, error) {
	self := p.engine.Client(engineUser)
	matcher, err := match.New(ctx, self)
	if err != nil {
		return nil, err
	}
	p.metrics.MustRegister(matcher)
	p.metrics.MustRegister(expression.Metrics()...)
	policies := policy.Config{Client: self, Matcher: matcher, Authorizer: p.authz, Merge: p.tracker.Merge, Metrics: p.metrics}
	mutates, err := policy.NewMutating(ctx, policies)
	if err != nil {
		return nil, err
	}
	validates, err := policy.NewValidating(ctx, policies)
	if err != nil {
		return nil, err
	}
	mutating, validating, err := webhook.New(ctx, webhook.Config{Client: self, Matcher: matcher, Authorizer: p.authz, Hooks: hooks, Metrics: p.metrics})
	if err != nil {
		return nil, err
	}
	return []admission.Plugin{mutates, mutating, validates, validating}, nil
}
