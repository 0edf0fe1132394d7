package apiserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A continueToken is where a list in pages goes on: upstream's form, so that a token of one server is good on another.
type continueToken struct {
	APIVersion      string `json:"v"`
	ResourceVersion int64  `json:"rv"`
	StartKey        string `json:"start"`
}

// encodeContinue makes the token for what comes after a key, relative to the list's prefix.
func encodeContinue(key, prefix string, revision int64) string {
	raw, err := json.Marshal(continueToken{APIVersion: "meta.k8s.io/v1", ResourceVersion: revision, StartKey: strings.TrimPrefix(key, prefix) + "\x00"})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// decodeContinue returns the key after which a list goes on, and the revision that it reads; -1 for the newest.
func decodeContinue(token, prefix string) (after string, revision int64, err error) {
	t, err := parseContinue(token)
	if err != nil {
		return "", 0, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
	}
	return prefix + strings.TrimSuffix(t.StartKey, "\x00"), t.ResourceVersion, nil
}

func parseContinue(token string) (continueToken, error) {
	var t continueToken
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return t, fmt.Errorf("continue key is not valid: %w", err)
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, fmt.Errorf("continue key is not valid: %w", err)
	}
	if t.APIVersion != "meta.k8s.io/v1" {
		return t, fmt.Errorf("continue key is not valid: server does not recognize this encoded version %q", t.APIVersion)
	}
	if t.ResourceVersion == 0 {
		return t, fmt.Errorf("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	}
	if t.StartKey == "" {
		return t, fmt.Errorf("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
	}
	// The key must stay below its prefix.
	key := "/" + t.StartKey
	if cleaned := path.Clean(key); cleaned != key {
		return t, fmt.Errorf("continue key is not valid: %s", t.StartKey)
	}
	return t, nil
}
