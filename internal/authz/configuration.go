package authz

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/client-go/rest"

	"clipper.dev/clipper/internal/authz/webhook"
	"clipper.dev/clipper/internal/reviewer"
)

// DefaultConfiguration is what is in force where nothing else is asked for.
func DefaultConfiguration() *apiserver.AuthorizationConfiguration {
	return &apiserver.AuthorizationConfiguration{Authorizers: []apiserver.AuthorizerConfiguration{
		{Type: "Node", Name: "node"}, {Type: "RBAC", Name: "rbac"},
	}}
}

// ParseConfiguration reads an AuthorizationConfiguration, in YAML or JSON, of any version.
func ParseConfiguration(data []byte) (*apiserver.AuthorizationConfiguration, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	o, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, fmt.Errorf("read an authorization configuration: %w", err)
	}
	cfg, ok := o.(*apiserver.AuthorizationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthorizationConfiguration, got %T", o)
	}
	return cfg, nil
}

// Builtin are the authorizers that a configuration may name.
type Builtin struct {
	Node, RBAC authorizer.Authorizer
	Metrics    *webhook.Metrics // nil measures nothing
	Decisions  *Decisions       // nil counts nothing
}

// Build makes the authorizers of a configuration. Masters come first whatever it says.
func (b Builtin) Build(cfg *apiserver.AuthorizationConfiguration) (Union, error) {
	known := sets.New("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
	compiler := authorizationcel.NewDefaultCompiler()
	if errs := validation.ValidateAuthorizationConfiguration(compiler, nil, cfg, known, sets.New("Webhook")); len(errs) > 0 {
		return nil, fmt.Errorf("the authorization configuration is invalid: %w", errs.ToAggregate())
	}
	out := Union{Masters{}}
	for _, a := range cfg.Authorizers {
		switch a.Type {
		case "AlwaysAllow":
			out = append(out, b.Decisions.of(a, always{authorizer.DecisionAllow}))
		case "AlwaysDeny":
			out = append(out, b.Decisions.of(a, always{authorizer.DecisionNoOpinion}))
		case "Node":
			out = append(out, b.Decisions.of(a, b.Node))
		case "RBAC":
			out = append(out, b.Decisions.of(a, b.RBAC))
		case apiserver.TypeWebhook:
			w, err := b.webhook(compiler, a)
			if err != nil {
				return nil, fmt.Errorf("authorizer %s: %w", a.Name, err)
			}
			out = append(out, b.Decisions.of(a, w))
		}
	}
	return out, nil
}

func (b Builtin) webhook(compiler authorizationcel.Compiler, a apiserver.AuthorizerConfiguration) (*webhook.Webhook, error) {
	match, errs := validation.ValidateAndCompileMatchConditions(compiler, a.Webhook.MatchConditions)
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	cfg := webhook.Config{
		Name: a.Name, Version: a.Webhook.SubjectAccessReviewVersion, OnError: authorizer.DecisionNoOpinion, Metrics: b.Metrics,
		AllowedTTL: ttl(a.Webhook.CacheAuthorizedRequests, a.Webhook.AuthorizedTTL.Duration),
		RefusedTTL: ttl(a.Webhook.CacheUnauthorizedRequests, a.Webhook.UnauthorizedTTL.Duration),
	}
	if len(a.Webhook.MatchConditions) > 0 {
		match.AuthorizerType, match.AuthorizerName = string(a.Type), a.Name
		if b.Metrics != nil {
			match.Metrics = b.Metrics
		}
		cfg.Match = match
	}
	if a.Webhook.FailurePolicy == apiserver.FailurePolicyDeny {
		cfg.OnError = authorizer.DecisionDeny
	}
	r, err := connect(a.Webhook)
	if err != nil {
		return nil, err
	}
	return webhook.New(r, cfg), nil
}

func ttl(cache bool, d time.Duration) time.Duration {
	if !cache {
		return 0
	}
	return d
}

func connect(w *apiserver.WebhookConfiguration) (*reviewer.Reviewer, error) {
	if w.ConnectionInfo.Type == apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile {
		return reviewer.Open(*w.ConnectionInfo.KubeConfigFile, w.Timeout.Duration)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read the cluster's configuration for pods: %w", err)
	}
	return reviewer.New(config, w.Timeout.Duration)
}

// always has one opinion.
type always struct{ decision authorizer.Decision }

// Authorize implements authorizer.Authorizer.
func (a always) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.decision == authorizer.DecisionAllow {
		return a.decision, "", nil
	}
	return a.decision, "Everything is forbidden.", nil
}

// RulesFor implements authorizer.RuleResolver.
func (a always) RulesFor(context.Context, user.Info, string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if a.decision != authorizer.DecisionAllow {
		return nil, nil, false, nil
	}
	return []authorizer.ResourceRuleInfo{&authorizer.DefaultResourceRuleInfo{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
		[]authorizer.NonResourceRuleInfo{&authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}, false, nil
}

// Current asks the authorizers that are in force, which may be replaced.
type Current struct{ union atomic.Pointer[Union] }

var (
	_ authorizer.Authorizer   = (*Current)(nil)
	_ authorizer.RuleResolver = (*Current)(nil)
)

// Set puts authorizers in force.
func (c *Current) Set(u Union) {
	u = slices.Clone(u)
	c.union.Store(&u)
}

// Authorize implements authorizer.Authorizer.
func (c *Current) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	return c.union.Load().Authorize(ctx, a)
}

// RulesFor implements authorizer.RuleResolver.
func (c *Current) RulesFor(ctx context.Context, who user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return c.union.Load().RulesFor(ctx, who, namespace)
}
