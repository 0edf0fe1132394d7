package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// Access says who may use the API.
type Access struct {
	// Anonymous lets in who shows nothing. NoTokens has no tokens reviewed: who shows one shows nothing.
	Anonymous, NoTokens bool
	// All allows everything to everybody who is let in.
	All bool
	// TokenTTL, AllowedTTL and DeniedTTL are how long the API server's answers are believed.
	TokenTTL, AllowedTTL, DeniedTTL time.Duration
}

const maxCached = 1024

// anonymous is who shows nothing.
var anonymous = user{name: "system:anonymous", groups: []string{"system:unauthenticated"}}

var (
	tokenReviews  = authenticationv1.SchemeGroupVersion.WithResource("tokenreviews")
	accessReviews = authorizationv1.SchemeGroupVersion.WithResource("subjectaccessreviews")
)

// user is who asks.
type user struct {
	name, uid string
	groups    []string
	extra     map[string]authorizationv1.ExtraValue
}

// access asks the API server who somebody is and what they may.
type access struct {
	Access
	client  client.Client
	node    string
	metrics *requestMetrics

	mu       sync.Mutex
	tokens   map[[sha256.Size]byte]knownUser
	verdicts map[string]verdict
}

type knownUser struct {
	user    user
	expires time.Time
}

type verdict struct {
	allowed bool
	reason  string
	expires time.Time
}

func newAccess(cfg Config, m *requestMetrics) *access {
	return &access{Access: cfg.Access, client: cfg.Client, node: cfg.NodeName, metrics: m, tokens: map[[sha256.Size]byte]knownUser{}, verdicts: map[string]verdict{}}
}

// guard lets through who may.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok, err := s.access.authenticate(r)
		if err != nil {
			s.Logger.Warn("request not authenticated", "path", r.URL.Path, "error", err)
		}
		if !ok {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb, subresources := attributes(r)
		for _, sub := range subresources {
			allowed, err := s.access.authorize(r.Context(), u, verb, sub)
			if err != nil {
				msg := fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)", u.name, verb, sub)
				s.Logger.Warn(msg, "error", err)
				http.Error(w, msg, http.StatusInternalServerError)
				return
			}
			if allowed {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", u.name, verb, subresources), http.StatusForbidden)
	})
}

// attributes tells what a request amounts to: a verb on a subresource of the node. Any of several is enough; the narrower comes first.
func attributes(r *http.Request) (verb string, subresources []string) {
	verb = map[string]string{http.MethodPost: "create", http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	path := r.URL.Path
	under := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
	switch {
	case under("/stats"):
		return verb, []string{"stats"}
	case under("/metrics"):
		return verb, []string{"metrics"}
	case under("/logs"):
		return verb, []string{"log"}
	case under("/checkpoint"):
		return verb, []string{"checkpoint"}
	case under("/pods"), under("/runningpods"):
		return verb, []string{"pods", "proxy"}
	case under("/healthz"):
		return verb, []string{"healthz", "proxy"}
	case under("/configz"):
		return verb, []string{"configz", "proxy"}
	}
	return verb, []string{"proxy"}
}

func (a *access) authenticate(r *http.Request) (user, bool, error) {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		certificate := r.TLS.VerifiedChains[0][0]
		subject := certificate.Subject
		if subject.CommonName != "" {
			a.metrics.remaining.Observe(time.Until(certificate.NotAfter).Seconds())
			return user{name: subject.CommonName, groups: append([]string{"system:authenticated"}, subject.Organization...)}, true, nil
		}
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" || a.NoTokens {
		return anonymous, a.Anonymous, nil
	}
	return a.review(r.Context(), strings.TrimSpace(token))
}

func (a *access) review(ctx context.Context, token string) (user, bool, error) {
	key, now := sha256.Sum256([]byte(token)), time.Now()
	a.mu.Lock()
	known, ok := a.tokens[key]
	a.mu.Unlock()
	if ok && now.Before(known.expires) {
		return known.user, true, nil
	}
	obj, err := a.client.Create(ctx, tokenReviews, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	a.metrics.reviews.answered(now, err)
	if err != nil {
		return user{}, false, fmt.Errorf("review a token: %w", err)
	}
	review, ok := obj.(*authenticationv1.TokenReview)
	if !ok || !review.Status.Authenticated {
		return user{}, false, nil
	}
	u := user{name: review.Status.User.Username, uid: review.Status.User.UID, groups: review.Status.User.Groups, extra: map[string]authorizationv1.ExtraValue{}}
	for k, v := range review.Status.User.Extra {
		u.extra[k] = authorizationv1.ExtraValue(v)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	trim(a.tokens, func(k knownUser) bool { return now.After(k.expires) })
	a.tokens[key] = knownUser{u, now.Add(a.TokenTTL)}
	return u, true, nil
}

// trim makes room in a cache: what has expired goes, and if that's not enough, everything.
func trim[K comparable, V any](m map[K]V, expired func(V) bool) {
	if len(m) < maxCached {
		return
	}
	for k, v := range m {
		if expired(v) {
			delete(m, k)
		}
	}
	if len(m) >= maxCached {
		clear(m)
	}
}

func (a *access) authorize(ctx context.Context, u user, verb, subresource string) (bool, error) {
	if a.All {
		return true, nil
	}
	key := fmt.Sprintf("%q %q %q %v %q %q", u.name, u.uid, u.groups, u.extra, verb, subresource)
	now := time.Now()
	a.mu.Lock()
	known, ok := a.verdicts[key]
	a.mu.Unlock()
	if ok && now.Before(known.expires) {
		return known.allowed, nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: u.extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.node},
	}}
	obj, err := a.client.Create(ctx, accessReviews, review, metav1.CreateOptions{})
	a.metrics.accessReviews.answered(now, err)
	if err != nil {
		return false, err
	}
	answer, ok := obj.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return false, fmt.Errorf("the API answered with a %T", obj)
	}
	v := verdict{allowed: answer.Status.Allowed, reason: answer.Status.Reason, expires: now.Add(a.DeniedTTL)}
	if v.allowed {
		v.expires = now.Add(a.AllowedTTL)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	trim(a.verdicts, func(v verdict) bool { return now.After(v.expires) })
	a.verdicts[key] = v
	return v.allowed, nil
}
