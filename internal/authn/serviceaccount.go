package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/lru"
)

// DefaultIssuer is the issuer of service account tokens where none is configured.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

// leeway is how far clocks may differ, and how long a deleted object's tokens live on.
const leeway = time.Minute

// boundClaims are what a bound token says.
type boundClaims struct {
	registered
	Kubernetes boundTo `json:"kubernetes.io"`
}

type boundTo struct {
	Namespace      string   `json:"namespace,omitempty"`
	Node           *ref     `json:"node,omitempty"`
	Pod            *ref     `json:"pod,omitempty"`
	Secret         *ref     `json:"secret,omitempty"`
	ServiceAccount ref      `json:"serviceaccount"`
	WarnAfter      *seconds `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// serviceAccountTokens believes the bound tokens that this cluster signed.
type serviceAccountTokens struct {
	keys      *keySet
	live      *live
	issuers   []string
	audiences authenticator.Audiences
	now       func() time.Time
	metrics   *tokenMetrics
	verified  *lru.Cache // [32]byte → *boundClaims, of tokens whose signature is good
}

func newServiceAccountTokens(keys *keySet, l *live, m *tokenMetrics, cfg Config) *serviceAccountTokens {
	return &serviceAccountTokens{keys: keys, live: l, metrics: m, issuers: cfg.Issuers, audiences: cfg.Audiences, now: cfg.Now, verified: lru.New(8192)}
}

func (t *serviceAccountTokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	claims, err := t.verify(token)
	if err != nil || claims == nil {
		return nil, false, err
	}
	auds, err := matchAudiences(ctx, authenticator.Audiences(claims.Audience), t.audiences)
	if err != nil {
		return nil, false, err
	}
	if err := claims.inTime(t.now()); err != nil {
		return nil, false, err
	}
	info, err := t.stillBound(claims)
	if err != nil {
		return nil, false, err
	}
	if w := claims.Kubernetes.WarnAfter; w != nil && *w != 0 && t.now().Unix() > int64(*w) {
		annotate(ctx, "authentication.k8s.io/stale-token", fmt.Sprintf("subject: %s, seconds after warning threshold: %d", claims.Subject, t.now().Unix()-int64(*w)))
		t.metrics.stale.Inc()
	} else {
		t.metrics.valid.Inc()
	}
	return &authenticator.Response{User: info.UserInfo(), Audiences: auds}, true, nil
}

// knows tells whether a token's signature was found good before.
func (t *serviceAccountTokens) knows(token string) bool {
	_, ok := t.verified.Get(sha256.Sum256([]byte(token)))
	return ok
}

// verify returns the claims of a token with a good signature; nil if it is no token of these issuers.
func (t *serviceAccountTokens) verify(token string) (*boundClaims, error) {
	key := sha256.Sum256([]byte(token))
	if c, ok := t.verified.Get(key); ok {
		return c.(*boundClaims), nil
	}
	p, ok := parseToken(token)
	if !ok {
		return nil, nil
	}
	var claims boundClaims
	if err := p.claims(&claims); err != nil || !slices.Contains(t.issuers, claims.Issuer) {
		return nil, nil
	}
	if err := t.keys.verify(p); err != nil {
		return nil, err
	}
	t.verified.Add(key, &claims)
	return &claims, nil
}

func matchAudiences(ctx context.Context, token, own authenticator.Audiences) (authenticator.Audiences, error) {
	if len(token) == 0 {
		token = own
	}
	asked, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		asked = own
	}
	common := token.Intersect(asked)
	if len(common) == 0 && len(own) > 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", token, asked)
	}
	return common, nil
}

// inTime checks a token's validity, giving clocks some leeway.
func (c registered) inTime(now time.Time) error {
	at := func(s seconds) time.Time { return time.Unix(int64(s), 0) }
	switch {
	case c.NotBefore != nil && now.Add(leeway).Before(at(*c.NotBefore)):
		return errors.New("service account token is not valid yet")
	case c.Expiry != nil && now.Add(-leeway).After(at(*c.Expiry)):
		return errors.New("service account token has expired")
	case c.IssuedAt != nil && now.Add(leeway).Before(at(*c.IssuedAt)):
		return errors.New("service account token is issued in the future")
	}
	return nil
}

// errInvalidated hides from a token's holder what became of what it was bound to.
var errInvalidated = errors.New("service account token has been invalidated")

// stillBound checks that all the objects that a token is bound to are those they were.
func (t *serviceAccountTokens) stillBound(c *boundClaims) (*serviceaccount.ServiceAccountInfo, error) {
	k := c.Kubernetes
	goneBefore := t.now().Add(-leeway)
	if err := t.checkAccount(k, goneBefore); err != nil {
		return nil, err
	}
	info := &serviceaccount.ServiceAccountInfo{Namespace: k.Namespace, Name: k.ServiceAccount.Name, UID: k.ServiceAccount.UID, CredentialID: credentialID(c.ID)}
	if k.Secret != nil {
		s, ok := t.live.secrets.Get(k.Namespace, k.Secret.Name)
		if err := checkBound(s, ok, *k.Secret, "secret", goneBefore); err != nil {
			return nil, err
		}
	}
	if k.Pod != nil {
		p, ok := t.live.pods.Get(k.Namespace, k.Pod.Name)
		if err := checkBound(p, ok, *k.Pod, "pod", goneBefore); err != nil {
			return nil, err
		}
		info.PodName, info.PodUID = k.Pod.Name, k.Pod.UID
	}
	if k.Node != nil {
		if k.Pod == nil {
			n, ok := t.live.nodes.Get("", k.Node.Name)
			if err := checkBound(n, ok, *k.Node, "node", goneBefore); err != nil {
				return nil, err
			}
		}
		info.NodeName, info.NodeUID = k.Node.Name, k.Node.UID
	}
	return info, nil
}

func (t *serviceAccountTokens) checkAccount(k boundTo, goneBefore time.Time) error {
	sa, ok := t.live.accounts.Get(k.Namespace, k.ServiceAccount.Name)
	switch {
	case !ok:
		return apierrors.NewNotFound(corev1.Resource("serviceaccounts"), k.ServiceAccount.Name)
	case string(sa.UID) != k.ServiceAccount.UID:
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, k.ServiceAccount.UID)
	case deletedBefore(sa, goneBefore):
		return fmt.Errorf("service account %s/%s has been deleted", k.Namespace, k.ServiceAccount.Name)
	}
	return nil
}

func checkBound(o interface {
	GetUID() types.UID
	GetDeletionTimestamp() *metav1.Time
}, exists bool, r ref, kind string, goneBefore time.Time) error {
	switch {
	case !exists:
		return errInvalidated
	case string(o.GetUID()) != r.UID:
		return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", kind, o.GetUID(), kind, r.UID)
	case deletedBefore(o, goneBefore):
		return errInvalidated
	}
	return nil
}

func deletedBefore(o interface{ GetDeletionTimestamp() *metav1.Time }, t time.Time) bool {
	at := o.GetDeletionTimestamp()
	return at != nil && at.Time.Before(t)
}

func credentialID(jti string) string {
	if jti == "" {
		return ""
	}
	return "JTI=" + jti
}
