package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apiserver/pkg/apis/apiserver"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// mapping makes a user of one token's claims.
type mapping struct {
	cfg    *apiserver.JWTAuthenticator
	cel    *authenticationcel.CELMapper
	claims claims
	value  *lazy.MapValue // the claims, for expressions
}

func (m mapping) user(ctx context.Context) (user.Info, error) {
	u := &user.DefaultInfo{}
	var err error
	if u.Name, err = m.name(ctx); err != nil {
		return nil, err
	}
	if u.Groups, err = m.groups(ctx); err != nil {
		return nil, err
	}
	if u.UID, err = m.uid(ctx); err != nil {
		return nil, err
	}
	if u.Extra, err = m.extra(ctx); err != nil {
		return nil, err
	}
	if err := m.checkClaims(ctx); err != nil {
		return nil, err
	}
	if err := m.checkUser(ctx, u); err != nil {
		return nil, err
	}
	return u, nil
}

func (m mapping) name(ctx context.Context) (string, error) {
	if m.cel.Username != nil {
		name, err := m.text(ctx, m.cel.Username, "username")
		if err == nil && name == "" {
			err = errors.New("oidc: empty username via CEL expression is not allowed")
		}
		return name, err
	}
	from := m.cfg.ClaimMappings.Username
	var name string
	if err := m.claims.read(from.Claim, &name); err != nil {
		return "", fmt.Errorf("oidc: parse username claims %q: %w", from.Claim, err)
	}
	if from.Claim == "email" && m.claims.has("email_verified") {
		var verified bool
		if err := m.claims.read("email_verified", &verified); err != nil {
			return "", fmt.Errorf("oidc: parse 'email_verified' claim: %w", err)
		}
		if !verified {
			return "", errors.New("oidc: email not verified")
		}
	}
	return prefixOf(from) + name, nil
}

func prefixOf(from apiserver.PrefixedClaimOrExpression) string {
	if from.Prefix == nil {
		return ""
	}
	return *from.Prefix
}

func (m mapping) groups(ctx context.Context) ([]string, error) {
	from := m.cfg.ClaimMappings.Groups
	if from.Claim != "" && m.claims.has(from.Claim) {
		groups, err := m.oneOrMore(from.Claim)
		if err != nil {
			return nil, fmt.Errorf("oidc: parse groups claim %q: %w", from.Claim, err)
		}
		for i := range groups {
			groups[i] = prefixOf(from) + groups[i]
		}
		return groups, nil
	}
	if m.cel.Groups == nil {
		return nil, nil
	}
	result, err := m.cel.Groups.EvalClaimMapping(ctx, m.value)
	var groups []string
	if err == nil {
		groups, err = texts(result.EvalResult)
	}
	if err != nil {
		return nil, fmt.Errorf("oidc: error evaluating group claim expression: %w", err)
	}
	return groups, nil
}

// oneOrMore reads a claim that is a list of strings, or one.
func (m mapping) oneOrMore(claim string) ([]string, error) {
	var all []string
	if m.claims.read(claim, &all) == nil {
		return all, nil
	}
	var one string
	if err := json.Unmarshal(m.claims[claim], &one); err != nil {
		return nil, err
	}
	return []string{one}, nil
}

func (m mapping) uid(ctx context.Context) (string, error) {
	if claim := m.cfg.ClaimMappings.UID.Claim; claim != "" {
		var uid string
		if err := m.claims.read(claim, &uid); err != nil {
			return "", fmt.Errorf("oidc: parse uid claim %q: %w", claim, err)
		}
		return uid, nil
	}
	if m.cel.UID == nil {
		return "", nil
	}
	return m.text(ctx, m.cel.UID, "uid")
}

// text evaluates an expression that gives a string.
func (m mapping) text(ctx context.Context, e authenticationcel.ClaimsMapper, what string) (string, error) {
	result, err := e.EvalClaimMapping(ctx, m.value)
	if err != nil {
		return "", fmt.Errorf("oidc: error evaluating %s claim expression: %w", what, err)
	}
	if result.EvalResult.Type() != cel.StringType {
		return "", fmt.Errorf("oidc: error evaluating %s claim expression: %s claim expression must return a string", what, what)
	}
	return result.EvalResult.Value().(string), nil
}

func (m mapping) extra(ctx context.Context) (map[string][]string, error) {
	extra := map[string][]string{}
	var id string
	if m.claims.read("jti", &id) == nil && id != "" {
		extra[user.CredentialIDKey] = []string{"JTI=" + id}
	}
	if m.cel.Extra != nil {
		results, err := m.cel.Extra.EvalClaimMappings(ctx, m.value)
		if err != nil {
			return nil, err
		}
		for _, r := range results {
			e := r.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
			values, err := texts(r.EvalResult)
			if err != nil {
				return nil, fmt.Errorf("oidc: error evaluating extra claim expression: %s: %w", e.Expression, err)
			}
			if len(values) > 0 {
				extra[e.Key] = values
			}
		}
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

var errNotTexts = errors.New("expression must return a string or a list of strings")

// texts reads a string or a list of strings. Empty ones count as absent.
func texts(v ref.Val) ([]string, error) {
	var all []any
	switch value := v.Value().(type) {
	case string:
		all = []any{value}
	case []any:
		all = value
	case []string:
		for _, s := range value {
			all = append(all, s)
		}
	case []ref.Val:
		for _, e := range value {
			all = append(all, e.Value())
		}
	default:
		if v.Type() == cel.NullType {
			return nil, nil
		}
		return nil, errNotTexts
	}
	var out []string
	for _, e := range all {
		s, ok := e.(string)
		if !ok {
			return nil, errNotTexts
		}
		if s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// checkClaims applies the rules of claims.
func (m mapping) checkClaims(ctx context.Context) error {
	for _, rule := range m.cfg.ClaimValidationRules {
		if rule.Claim == "" {
			continue
		}
		if !m.claims.has(rule.Claim) {
			return fmt.Errorf("oidc: required claim %s not present in ID token", rule.Claim)
		}
		var got string
		if err := m.claims.read(rule.Claim, &got); err != nil {
			return fmt.Errorf("oidc: parse claim %s: %w", rule.Claim, err)
		}
		if got != rule.RequiredValue {
			return fmt.Errorf("oidc: required claim %s value does not match. Got = %s, want = %s", rule.Claim, got, rule.RequiredValue)
		}
	}
	if m.cel.ClaimValidationRules == nil {
		return nil
	}
	results, err := m.cel.ClaimValidationRules.EvalClaimMappings(ctx, m.value)
	if err == nil {
		err = allTrue(results)
	}
	if err != nil {
		return fmt.Errorf("oidc: error evaluating claim validation expression: %w", err)
	}
	return nil
}

// checkUser applies the rules of users.
func (m mapping) checkUser(ctx context.Context, u user.Info) error {
	if m.cel.UserValidationRules == nil {
		return nil
	}
	results, err := m.cel.UserValidationRules.EvalUser(ctx, userValue(u))
	if err == nil {
		err = allTrue(results)
	}
	if err != nil {
		return fmt.Errorf("oidc: error evaluating user info validation rule: %w", err)
	}
	return nil
}

func allTrue(results []authenticationcel.EvaluationResult) error {
	for _, r := range results {
		if r.EvalResult.Type() != cel.BoolType {
			return errors.New("validation expression must return a boolean")
		}
		if r.EvalResult.Value().(bool) {
			continue
		}
		message := ""
		switch e := r.ExpressionAccessor.(type) {
		case *authenticationcel.ClaimValidationCondition:
			message = e.Message
		case *authenticationcel.UserValidationCondition:
			message = e.Message
		}
		return fmt.Errorf("validation expression '%s' failed: %s", r.ExpressionAccessor.GetExpression(), message)
	}
	return nil
}
