package authz

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Decisions counts which authorizer decided how, under upstream's name.
type Decisions struct{ total *prometheus.CounterVec }

// NewDecisions makes and registers the metric.
func NewDecisions(r prometheus.Registerer) *Decisions {
	d := &Decisions{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_authorization_decisions_total", Help: "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
	}, []string{"decision", "name", "type"})}
	r.MustRegister(d.total)
	return d
}

// of counts what an authorizer decides.
func (d *Decisions) of(cfg apiserver.AuthorizerConfiguration, az authorizer.Authorizer) authorizer.Authorizer {
	if d == nil {
		return az
	}
	count := func(decision string) prometheus.Counter {
		return d.total.WithLabelValues(decision, cfg.Name, string(cfg.Type))
	}
	return &counted{az, count("allowed"), count("denied")}
}

type counted struct {
	authorizer.Authorizer
	allowed, denied prometheus.Counter
}

var _ authorizer.RuleResolver = (*counted)(nil)

// Authorize implements authorizer.Authorizer.
func (c *counted) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason, err := c.Authorizer.Authorize(ctx, a)
	switch decision {
	case authorizer.DecisionAllow:
		c.allowed.Inc()
	case authorizer.DecisionDeny:
		c.denied.Inc()
	}
	return decision, reason, err
}

// RulesFor implements authorizer.RuleResolver.
func (c *counted) RulesFor(ctx context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if r, ok := c.Authorizer.(authorizer.RuleResolver); ok {
		return r.RulesFor(ctx, u, namespace)
	}
	return nil, nil, false, nil
}
