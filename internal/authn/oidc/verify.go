package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// verifier checks an issuer's signatures, and for whom a token is.
type verifier struct {
	ids       *oidc.IDTokenVerifier
	audiences []string
}

func (v *verifier) verify(ctx context.Context, token string) (*oidc.IDToken, error) {
	id, err := v.ids.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	for _, a := range id.Audience {
		if slices.Contains(v.audiences, a) {
			return id, nil
		}
	}
	if len(v.audiences) == 1 {
		return nil, fmt.Errorf("oidc: expected audience %q got %q", v.audiences[0], id.Audience)
	}
	return nil, fmt.Errorf("oidc: expected audience in %q got %q", slices.Sorted(slices.Values(v.audiences)), id.Audience)
}

// unverifiedIssuer reads who a token says it is from. Nothing is believed yet.
func unverifiedIssuer(token string) (string, error) {
	parts := strings.Split(token, ".")
	if strings.HasPrefix(strings.TrimSpace(token), "{") || len(parts) != 3 {
		return "", errors.New("the token is no compact JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("error decoding token: %w", err)
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", fmt.Errorf("while unmarshaling token: %w", err)
	}
	if c.Issuer == "accounts.google.com" { // of old, without its scheme
		return "https://accounts.google.com", nil
	}
	return c.Issuer, nil
}

// bounded reads no more of an answer than is reasonable.
type bounded struct{ base http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.base.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswerBytes)
	}
	return resp, err
}

// get reads a URL.
func get(ctx context.Context, client *http.Client, url, accessToken string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("while calling %v: %w", url, err)
	}
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode > http.StatusIMUsed {
		return "", fmt.Errorf("error while getting distributed claim JWT: %v", resp.Status)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", errors.New("could not decode distributed claim response")
	}
	return string(body), nil
}
