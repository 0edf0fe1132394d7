package authn

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"clipper.dev/clipper/internal/client"
)

// legacyIssuer is the issuer of tokens that live in Secrets and never expire.
const legacyIssuer = "kubernetes/serviceaccount"

const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
	dateForm          = "2006-01-02"
)

type legacyClaims struct {
	Issuer             string   `json:"iss"`
	Subject            string   `json:"sub"`
	Audience           audience `json:"aud,omitempty"`
	Namespace          string   `json:"kubernetes.io/serviceaccount/namespace"`
	SecretName         string   `json:"kubernetes.io/serviceaccount/secret.name"`
	ServiceAccountName string   `json:"kubernetes.io/serviceaccount/service-account.name"`
	ServiceAccountUID  string   `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// legacyTokens believes the tokens of Secrets of type kubernetes.io/service-account-token, as long as the Secret holds them.
type legacyTokens struct {
	keys      *keySet
	live      *live
	client    client.Client
	audiences authenticator.Audiences
	now       func() time.Time
	metrics   *tokenMetrics
	log       *slog.Logger
}

func newLegacyTokens(keys *keySet, l *live, c client.Client, m *tokenMetrics, cfg Config) *legacyTokens {
	return &legacyTokens{keys: keys, live: l, client: c, audiences: cfg.Audiences, now: cfg.Now, metrics: m, log: cfg.Logger}
}

func (t *legacyTokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	p, ok := parseToken(token)
	if !ok {
		return nil, false, nil
	}
	var c legacyClaims
	if err := p.claims(&c); err != nil || c.Issuer != legacyIssuer {
		return nil, false, nil
	}
	if err := t.keys.verify(p); err != nil {
		return nil, false, err
	}
	auds, err := matchAudiences(ctx, authenticator.Audiences(c.Audience), t.audiences)
	if err != nil {
		return nil, false, err
	}
	if err := c.complete(); err != nil {
		return nil, false, err
	}
	if len(c.Audience) == 0 {
		annotate(ctx, "authentication.k8s.io/legacy-token", c.Subject)
		t.metrics.legacy.Inc()
	}
	if err := t.check(ctx, token, c); err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: serviceaccount.UserInfo(c.Namespace, c.ServiceAccountName, c.ServiceAccountUID), Audiences: auds}, true, nil
}

// complete checks that a token says all that it has to.
func (c legacyClaims) complete() error {
	for _, claim := range []struct{ value, text string }{
		{c.Subject, "sub claim is missing"},
		{c.Namespace, "namespace claim is missing"},
		{c.SecretName, "secretName claim is missing"},
		{c.ServiceAccountName, "serviceAccountName claim is missing"},
		{c.ServiceAccountUID, "serviceAccountUID claim is missing"},
	} {
		if claim.value == "" {
			return errors.New(claim.text)
		}
	}
	if !serviceaccount.MatchesUsername(c.Namespace, c.ServiceAccountName, c.Subject) {
		return errors.New("sub claim is invalid")
	}
	return nil
}

// check compares a token with the Secret and the ServiceAccount that it names.
func (t *legacyTokens) check(ctx context.Context, token string, c legacyClaims) error {
	secret, ok := t.live.secrets.Get(c.Namespace, c.SecretName)
	if !ok || secret.DeletionTimestamp != nil {
		return errors.New("Token has been invalidated")
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) == 0 {
		return errors.New("Token does not match server's copy")
	}
	sa, ok := t.live.accounts.Get(c.Namespace, c.ServiceAccountName)
	switch {
	case !ok:
		return apierrors.NewNotFound(corev1.Resource("serviceaccounts"), c.ServiceAccountName)
	case sa.DeletionTimestamp != nil:
		return fmt.Errorf("ServiceAccount %s/%s has been deleted", c.Namespace, c.ServiceAccountName)
	case string(sa.UID) != c.ServiceAccountUID:
		return fmt.Errorf("ServiceAccount UID (%s) does not match claim (%s)", sa.UID, c.ServiceAccountUID)
	}
	if secret.Labels[invalidSinceLabel] != "" {
		annotate(ctx, "authentication.k8s.io/legacy-token-invalidated", secret.Name+"/"+secret.Namespace)
		t.metrics.invalidated.Inc()
		t.noteUse(ctx, secret)
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			c.Namespace, c.SecretName, c.Namespace, c.ServiceAccountName, invalidSinceLabel)
	}
	if slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret.Name }) {
		warn(ctx, "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.")
		annotate(ctx, "authentication.k8s.io/legacy-token-autogenerated-secret", secret.Name)
		t.metrics.automatic.Inc()
	} else {
		annotate(ctx, "authentication.k8s.io/legacy-token-manual-secret", secret.Name)
		t.metrics.manual.Inc()
	}
	t.noteUse(ctx, secret)
	return nil
}

// noteUse labels the Secret with the day of its last use, once a day. Another server's clock may be a day ahead.
func (t *legacyTokens) noteUse(ctx context.Context, secret *corev1.Secret) {
	now := t.now().UTC()
	today := now.Format(dateForm)
	if last := secret.Labels[lastUsedLabel]; last == today || last == now.AddDate(0, 0, 1).Format(dateForm) {
		return
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":    secret.UID,
		"labels": map[string]string{lastUsedLabel: today},
	}})
	if err == nil {
		_, err = client.Secrets.Patch(ctx, t.client, secret.Namespace, secret.Name, "", types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		t.log.Error("a service account token's use could not be noted", "namespace", secret.Namespace, "secret", secret.Name, "err", err)
	}
}

// IssueLegacyToken signs the token of a Secret of type kubernetes.io/service-account-token.
func (a *Authenticator) IssueLegacyToken(namespace, account string, uid types.UID, secret string) (string, error) {
	return a.issuer.key.sign(legacyClaims{
		Issuer:             legacyIssuer,
		Subject:            serviceaccount.MakeUsername(namespace, account),
		Namespace:          namespace,
		SecretName:         secret,
		ServiceAccountName: account,
		ServiceAccountUID:  string(uid),
	})
}
