package webhook

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"golang.org/x/sync/singleflight"

	"clipper.dev/clipper/internal/reviewer"
)

// maxRemembered bounds how many answers are remembered.
const maxRemembered = 8192

// Config says how to ask.
type Config struct {
	// Version of the review: v1 or v1beta1. Their fields are the same.
	Version string
	// CacheTTL is how long an answer is remembered; zero remembers none.
	CacheTTL time.Duration
	// Audiences are this server's own.
	Audiences authenticator.Audiences
}

// Webhook asks a server whose token something is.
type Webhook struct {
	cfg      Config
	reviewer *reviewer.Reviewer
	answers  *cache.LRUExpireCache // [32]byte → answer
	asking   singleflight.Group
}

var _ authenticator.Token = (*Webhook)(nil)

// New returns an authenticator.
func New(r *reviewer.Reviewer, cfg Config) (*Webhook, error) {
	if cfg.Version != "v1" && cfg.Version != "v1beta1" {
		return nil, fmt.Errorf("unsupported authentication webhook version %q, supported versions are %q, %q", cfg.Version, "v1", "v1beta1")
	}
	return &Webhook{cfg: cfg, reviewer: r, answers: cache.NewLRUExpireCache(maxRemembered)}, nil
}

// answer is what is remembered of a review.
type answer struct {
	resp *authenticator.Response
	ok   bool
	err  error // why it was refused
}

// AuthenticateToken implements authenticator.Token. A token that isn't asked about for other audiences must be for this server's own.
func (w *Webhook) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	wanted, asked := authenticator.AudiencesFrom(ctx)
	if !asked {
		wanted = w.cfg.Audiences
	}
	key := sha256.Sum256([]byte(strings.Join(wanted, "\x00") + "\x00\x00" + token))
	if a, ok := w.answers.Get(key); ok {
		a := a.(answer)
		return a.resp, a.ok, a.err
	}
	ask := func() (any, error) {
		a, err := w.ask(context.WithoutCancel(ctx), token, wanted)
		if err == nil && w.cfg.CacheTTL > 0 {
			w.answers.Add(key, a, w.cfg.CacheTTL)
		}
		return a, err
	}
	select {
	case r := <-w.asking.DoChan(string(key[:]), ask):
		if r.Err != nil {
			return nil, false, r.Err
		}
		a := r.Val.(answer)
		return a.resp, a.ok, a.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// ask posts a review. An error is one of asking; a refusal is part of the answer.
func (w *Webhook) ask(ctx context.Context, token string, wanted authenticator.Audiences) (answer, error) {
	review := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/" + w.cfg.Version, Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted},
	}
	if err := w.reviewer.Review(ctx, &review); err != nil {
		return answer{}, fmt.Errorf("ask the authentication webhook: %w", err)
	}
	s := review.Status
	if !s.Authenticated {
		if s.Error != "" {
			return answer{err: errors.New(s.Error)}, nil
		}
		return answer{}, nil
	}
	var audiences authenticator.Audiences
	if len(wanted) > 0 {
		given := w.cfg.Audiences
		if len(s.Audiences) > 0 {
			given = slices.Clone(s.Audiences)
		}
		if audiences = wanted.Intersect(given); len(audiences) == 0 {
			return answer{}, nil
		}
	}
	var extra map[string][]string
	for k, v := range s.User.Extra {
		if extra == nil {
			extra = map[string][]string{}
		}
		extra[k] = v
	}
	u := &user.DefaultInfo{Name: s.User.Username, UID: s.User.UID, Groups: s.User.Groups, Extra: extra}
	return answer{ok: true, resp: &authenticator.Response{User: u, Audiences: audiences}}, nil
}
