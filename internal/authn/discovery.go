package authn

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
)

// The paths of the discovery documents, and how long they may be cached.
const (
	OpenIDConfigurationPath = "/.well-known/openid-configuration"
	JWKSPath                = "/openid/v1/jwks"
	DiscoveryMaxAgeSeconds  = 3600
	JWKSContentType         = "application/jwk-set+json"
)

// OpenIDConfiguration returns the document by which others find the keys of this cluster's service account tokens.
func (a *Authenticator) OpenIDConfiguration() ([]byte, error) {
	var algs []string
	for _, k := range a.keys.all {
		algs = append(algs, k.alg)
	}
	slices.Sort(algs)
	keys := cmp.Or(a.cfg.JWKSURI, "https://"+a.cfg.JWKSAddress+JWKSPath)
	return json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
	}{a.cfg.Issuers[0], keys, []string{"id_token"}, []string{"public"}, slices.Compact(algs)})
}

// jwk is a public key in JSON.
type jwk struct {
	Use string `json:"use"`
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Crv string `json:"crv,omitempty"`
	Alg string `json:"alg"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
}

// JWKS returns the keys that verify this cluster's service account tokens.
func (a *Authenticator) JWKS() ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{}}
	for _, k := range a.keys.all {
		j, err := k.jwk()
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, j)
	}
	return json.Marshal(set)
}

func (k verifyKey) jwk() (jwk, error) {
	encode := base64.RawURLEncoding.EncodeToString
	j := jwk{Use: "sig", Kid: k.id, Alg: k.alg}
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		j.Kty, j.N, j.E = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			return jwk{}, fmt.Errorf("encode a public key: %w", err)
		}
		j.Kty, j.Crv = "EC", p.Curve.Params().Name
		j.X, j.Y = encode(point[1:1+k.size]), encode(point[1+k.size:])
	}
	return j, nil
}
