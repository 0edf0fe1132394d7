package apiserver

import (
	"context"
	"errors"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/api"
)

// env is what rows borrow of the engine.
type env struct{ s *Server }

var _ api.Env = env{}

func (s *Server) env() api.Env { return env{s} }

// Env is what rows borrow of the engine, for code that calls their functions from outside.
func (s *Server) Env() api.Env { return s.env() }

// Client reads and writes as the engine itself.
func (e env) Client() api.Client { return e.s.Client(engineUser) }

// User returns who makes the request.
func (e env) User(ctx context.Context) api.UserInfo { return User(ctx) }

// Authorize asks the authorizer.
func (e env) Authorize(ctx context.Context, a api.AccessAttributes) (allowed, denied bool, reason string, err error) {
	sec := e.s.security.Load()
	if sec.Authorizer == nil {
		return false, false, "", errors.New("no authorizer is installed yet")
	}
	decision, reason, err := sec.Authorizer.Authorize(ctx, recordFor(a))
	return decision == authorizer.DecisionAllow, decision == authorizer.DecisionDeny, reason, err
}

// Verb returns that of the request.
func (e env) Verb(ctx context.Context) string { return callOf(ctx).verb }

// Permit asks the authorizer.
func (e env) Permit(ctx context.Context, a api.AccessAttributes) error {
	return e.s.authorize(ctx, recordFor(a))
}

func recordFor(a api.AccessAttributes) authorizer.AttributesRecord {
	record := authorizer.AttributesRecord{
		User: infoOf(a.User), Verb: a.Verb, APIGroup: a.Group, APIVersion: a.Version, Resource: a.Resource, Subresource: a.Subresource,
		Namespace: a.Namespace, Name: a.Name, ResourceRequest: a.NonResourcePath == "", Path: a.NonResourcePath,
	}
	selectorAttributes(&record, a.FieldSelector, a.LabelSelector)
	return record
}

// RulesFor lists what a user may do in a namespace.
func (e env) RulesFor(ctx context.Context, u api.UserInfo, namespace string) (any, error) {
	sec := e.s.security.Load()
	if sec.RulesFor == nil {
		return nil, errors.New("the authorizer cannot list rules")
	}
	return sec.RulesFor(ctx, u, namespace)
}

// Authenticate checks a token.
func (e env) Authenticate(ctx context.Context, token string, audiences []string) (u api.UserInfo, aud []string, ok bool, err error) {
	sec := e.s.security.Load()
	if sec.CheckToken == nil {
		return api.UserInfo{}, nil, false, errors.New("no token authenticator is installed yet")
	}
	return sec.CheckToken(ctx, token, audiences)
}

// IssueToken signs a token.
func (e env) IssueToken(ctx context.Context, req api.TokenRequest) (string, time.Time, error) {
	sec := e.s.security.Load()
	if sec.IssueToken == nil {
		return "", time.Time{}, errors.New("no token issuer is installed yet")
	}
	return sec.IssueToken(ctx, req)
}

// Components asks the parts of the control plane how they are.
func (e env) Components(ctx context.Context) []api.ComponentHealth {
	var out []api.ComponentHealth
	for _, c := range e.s.components.all() {
		out = append(out, api.ComponentHealth{Name: c.name, Err: c.check(ctx)})
	}
	return out
}

// Usage asks nodes' kubelets what is used there.
func (e env) Usage(ctx context.Context, nodes []string) map[string]api.NodeUsage {
	return e.s.usage.Nodes(ctx, nodes)
}
