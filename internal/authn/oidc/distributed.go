package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coreos/go-oidc/v3/oidc"
)

// sources fetches a claim that a token does not hold but says where to find (OpenID Connect Core 1.0, section 5.6.2).
type sources struct {
	issuer *Issuer
	ctx    context.Context // under which keys are fetched

	mu        sync.Mutex
	verifiers map[string]*verifier // by issuer
}

func newSources(ctx context.Context, i *Issuer) *sources {
	return &sources{issuer: i, ctx: oidc.ClientContext(ctx, i.client), verifiers: map[string]*verifier{}}
}

// fetch adds the claim to c, if c names a source for it.
func (s *sources) fetch(ctx context.Context, c claims, claim string) error {
	rawNames, distributed := c["_claim_names"]
	if c.has(claim) || !distributed {
		return nil
	}
	names := map[string]string{}
	if err := json.Unmarshal(rawNames, &names); err != nil {
		return fmt.Errorf("oidc: error parsing distributed claim names: %w", err)
	}
	rawSources, ok := c["_claim_sources"]
	if !ok {
		return errors.New("oidc: no claim sources")
	}
	var endpoints map[string]struct {
		Endpoint    string `json:"endpoint"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(rawSources, &endpoints); err != nil {
		return fmt.Errorf("oidc: could not parse claim sources: %w", err)
	}
	name, ok := names[claim]
	if !ok {
		return nil
	}
	at, ok := endpoints[name]
	if !ok {
		return fmt.Errorf("id token _claim_names contained a source %s missing in _claims_sources", name)
	}
	if at.Endpoint == "" { // an aggregated claim, which nobody reads
		return nil
	}
	token, err := get(ctx, s.issuer.client, at.Endpoint, at.AccessToken)
	if err != nil {
		return fmt.Errorf("while getting distributed claim %q: %w", claim, err)
	}
	value, err := s.read(ctx, token, claim, at.Endpoint)
	if err != nil {
		return err
	}
	c[claim] = value
	return nil
}

// read verifies the token that holds a claim.
func (s *sources) read(ctx context.Context, token, claim, endpoint string) (json.RawMessage, error) {
	issuer, err := unverifiedIssuer(token)
	if err != nil {
		return nil, fmt.Errorf("getting untrusted issuer from endpoint %v failed for claim %q: %w", endpoint, claim, err)
	}
	v, err := s.verifier(issuer)
	if err != nil {
		return nil, fmt.Errorf("verifying untrusted issuer %v failed: %w", issuer, err)
	}
	id, err := v.verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("verify distributed claim token: %w", err)
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return nil, fmt.Errorf("could not parse distributed claims for claim %v: %w", claim, err)
	}
	if !c.has(claim) {
		return nil, fmt.Errorf("jwt returned by distributed claim endpoint %q did not contain claim: %v", endpoint, claim)
	}
	return c[claim], nil
}

// maxSourceIssuers bounds how many further issuers are remembered: tokens that name them are signed by the configured one.
const maxSourceIssuers = 64

func (s *sources) verifier(issuer string) (*verifier, error) {
	s.mu.Lock()
	v := s.verifiers[issuer]
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	v, err := s.issuer.discover(s.ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("verifier not initialized for issuer: %q: %w", issuer, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.verifiers) >= maxSourceIssuers {
		clear(s.verifiers)
	}
	s.verifiers[issuer] = v
	return v, nil
}
