package bootstrapsigner

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	signaturePrefix = "jws-kubeconfig-"
	contentKey      = "kubeconfig"
	secretPrefix    = "bootstrap-token-"
)

// signed returns the ConfigMap's data with one signature for each token that may sign now, and when the first of them expires
// (zero: never). Without content there is nothing to sign: the data stays as it is.
func signed(data map[string]string, secrets []*corev1.Secret, now time.Time) (out map[string]string, until time.Time, err error) {
	out = maps.Clone(data)
	content, ok := data[contentKey]
	if !ok {
		return out, until, nil
	}
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, signaturePrefix) })
	for _, s := range secrets {
		id, secret, expires, ok := signingToken(s, now)
		if !ok {
			continue
		}
		if !expires.IsZero() && (until.IsZero() || expires.Before(until)) {
			until = expires
		}
		if out[signaturePrefix+id], err = detached(content, id, secret); err != nil {
			return nil, until, err
		}
	}
	return out, until, nil
}

// signingToken takes a bootstrap token's parts from its Secret if it may sign.
func signingToken(s *corev1.Secret, now time.Time) (id, secret string, expires time.Time, ok bool) {
	data := func(key string) string { return string(s.Data[key]) }
	id, secret = data("token-id"), data("token-secret")
	if s.Type != corev1.SecretTypeBootstrapToken || s.DeletionTimestamp != nil || data("usage-bootstrap-signing") != "true" ||
		id == "" || secret == "" || s.Name != secretPrefix+id {
		return "", "", expires, false
	}
	if at := data("expiration"); at != "" {
		var err error
		if expires, err = time.Parse(time.RFC3339, at); err != nil || !now.Before(expires) {
			return "", "", expires, false
		}
	}
	return id, secret, expires, true
}

// detached signs content as a JWS without its payload: header, nothing, signature.
func detached(content, id, secret string) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "HS256", "kid": id})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(encode(header) + "." + encode([]byte(content))))
	return encode(header) + ".." + encode(mac.Sum(nil)), nil
}
