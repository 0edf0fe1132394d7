package authn

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha256" // the hashes that keys name
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// errSignature says that no key verifies a token.
var errSignature = errors.New("go-jose/go-jose: error in cryptographic primitive")

// verifyKey is a public key that verifies tokens.
type verifyKey struct {
	id     string
	alg    string // "ES256"
	hash   crypto.Hash
	size   int // of an elliptic curve's coordinate, in bytes
	public crypto.PublicKey
}

func newVerifyKey(public crypto.PublicKey) (verifyKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return verifyKey{}, fmt.Errorf("encode a public key of type %T: %w", public, err)
	}
	sum := sha256.Sum256(der)
	k := verifyKey{id: base64.RawURLEncoding.EncodeToString(sum[:]), public: public}
	switch p := public.(type) {
	case *rsa.PublicKey:
		k.alg, k.hash = "RS256", crypto.SHA256
	case *ecdsa.PublicKey:
		k.size = (p.Curve.Params().BitSize + 7) / 8
		switch p.Curve {
		case elliptic.P256():
			k.alg, k.hash = "ES256", crypto.SHA256
		case elliptic.P384():
			k.alg, k.hash = "ES384", crypto.SHA384
		case elliptic.P521():
			k.alg, k.hash = "ES512", crypto.SHA512
		default:
			return verifyKey{}, errors.New("an ECDSA key's curve must be P-256, P-384 or P-521")
		}
	default:
		return verifyKey{}, fmt.Errorf("a key of type %T cannot sign tokens: RSA and ECDSA keys can", public)
	}
	return k, nil
}

func (k verifyKey) digest(signed string) []byte {
	h := k.hash.New()
	h.Write([]byte(signed))
	return h.Sum(nil)
}

func (k verifyKey) verify(alg, signed string, signature []byte) bool {
	if alg != k.alg {
		return false
	}
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, k.hash, k.digest(signed), signature) == nil
	case *ecdsa.PublicKey:
		if len(signature) != 2*k.size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:k.size]), new(big.Int).SetBytes(signature[k.size:])
		return ecdsa.Verify(p, k.digest(signed), r, s)
	}
	return false
}

// signKey signs tokens.
type signKey struct {
	verifyKey
	signer crypto.Signer
}

// sign returns the compact form of a token with these claims.
func (k signKey) sign(claims any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": k.alg, "kid": k.id})
	if err != nil {
		return "", fmt.Errorf("encode a token's header: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode a token's claims: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := k.signer.Sign(rand.Reader, k.digest(signed), k.hash)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	if k.size > 0 {
		if signature, err = k.fixedWidth(signature); err != nil {
			return "", err
		}
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// fixedWidth turns an ASN.1 signature into JWT's form: both numbers, each as long as the curve.
func (k signKey) fixedWidth(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, fmt.Errorf("read back a signature: %w", err)
	}
	out := make([]byte, 2*k.size)
	sig.R.FillBytes(out[:k.size])
	sig.S.FillBytes(out[k.size:])
	return out, nil
}

// keySet is the keys that verify tokens, and the one that signs.
type keySet struct {
	all     []verifyKey
	signing signKey
}

func newKeySet(signer crypto.Signer, public []crypto.PublicKey) (*keySet, error) {
	s := &keySet{}
	if signer != nil {
		k, err := newVerifyKey(signer.Public())
		if err != nil {
			return nil, err
		}
		s.signing = signKey{verifyKey: k, signer: signer}
		s.all = append(s.all, k)
	}
	for _, p := range public {
		k, err := newVerifyKey(p)
		if err != nil {
			return nil, err
		}
		if signer == nil || k.id != s.signing.id {
			s.all = append(s.all, k)
		}
	}
	return s, nil
}

// parsed is a token taken apart but not yet believed.
type parsed struct {
	alg, kid  string
	signed    string
	signature []byte
	payload   []byte
}

// parseToken takes a JWT apart; false if it isn't one.
func parseToken(token string) (parsed, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return parsed{}, false
	}
	var header struct{ Alg, Kid string }
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || json.Unmarshal(raw, &header) != nil {
		return parsed{}, false
	}
	p := parsed{alg: header.Alg, kid: header.Kid, signed: parts[0] + "." + parts[1]}
	if p.payload, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
		return parsed{}, false
	}
	if p.signature, err = base64.RawURLEncoding.DecodeString(parts[2]); err != nil {
		return parsed{}, false
	}
	return p, true
}

// verify checks a token's signature by the key that it names, or by any if it names none.
func (s *keySet) verify(p parsed) error {
	tried := false
	for _, k := range s.all {
		if p.kid != "" && k.id != p.kid {
			continue
		}
		tried = true
		if k.verify(p.alg, p.signed, p.signature) {
			return nil
		}
	}
	if !tried {
		return errors.New("invalid signature, no keys found")
	}
	return errSignature
}

// claims decodes a token's payload.
func (p parsed) claims(into any) error {
	d := json.NewDecoder(bytes.NewReader(p.payload))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode a token's claims: %w", err)
	}
	return nil
}

// registered are the claims that every token has.
type registered struct {
	Issuer    string   `json:"iss,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  audience `json:"aud,omitempty"`
	Expiry    *seconds `json:"exp,omitempty"`
	NotBefore *seconds `json:"nbf,omitempty"`
	IssuedAt  *seconds `json:"iat,omitempty"`
	ID        string   `json:"jti,omitempty"`
}

// audience is one string or several.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// seconds is a time since 1970; fractions are accepted and dropped.
type seconds int64

func (s *seconds) UnmarshalJSON(data []byte) error {
	var f float64
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	*s = seconds(f)
	return nil
}
