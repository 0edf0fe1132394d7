package authn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"clipper.dev/clipper/internal/api"
)

// issuer signs bound service account tokens.
type issuer struct {
	name    string
	key     signKey
	now     func() time.Time
	maxLife time.Duration
}

// IssueToken signs a bound service account token. It serves api.Env: who asks for it was authorized, and what it is bound to was
// looked up, before.
func (a *Authenticator) IssueToken(ctx context.Context, req api.TokenRequest) (token string, expires time.Time, err error) {
	if a.issuer.key.signer == nil {
		return "", time.Time{}, errors.New("this server has no key to sign service account tokens with")
	}
	audiences := req.Audiences
	if len(audiences) == 0 {
		audiences = a.cfg.Audiences
	}
	a.issuer.shorten(ctx, &req)
	life := req.Expiry
	now := a.issuer.now()
	issued, until := seconds(now.Unix()), seconds(now.Add(life).Unix())
	claims := boundClaims{
		registered: registered{
			Issuer:    a.issuer.name,
			Subject:   serviceaccount.MakeUsername(req.Namespace, req.ServiceAccount),
			Audience:  audiences,
			Expiry:    &until,
			NotBefore: &issued,
			IssuedAt:  &issued,
			ID:        uuid.NewString(),
		},
		Kubernetes: boundTo{
			Namespace:      req.Namespace,
			ServiceAccount: ref{Name: req.ServiceAccount, UID: req.ServiceAccountUID},
		},
	}
	bind(&claims.Kubernetes, req)
	if req.WarnAfter > 0 {
		warn := seconds(now.Add(req.WarnAfter).Unix())
		claims.Kubernetes.WarnAfter = &warn
	}
	annotate(ctx, serviceaccount.IssuedCredentialIDAuditAnnotationKey, credentialID(claims.ID))
	token, err = a.issuer.key.sign(claims)
	return token, time.Unix(int64(until), 0).UTC(), err
}

// shorten keeps a token's life to the bound, and tells who asked for more. A life that is extended beyond what was asked for isn't bound.
func (i *issuer) shorten(ctx context.Context, req *api.TokenRequest) {
	asked := cmp.Or(req.WarnAfter, req.Expiry)
	if i.maxLife == 0 || asked <= i.maxLife {
		return
	}
	warn(ctx, fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", int64(asked.Seconds()), int64(i.maxLife.Seconds())))
	req.Expiry, req.WarnAfter = i.maxLife, 0
}

func bind(to *boundTo, req api.TokenRequest) {
	bound := &ref{Name: req.BoundName, UID: req.BoundUID}
	switch req.BoundKind {
	case "Pod":
		to.Pod = bound
		if req.NodeName != "" {
			to.Node = &ref{Name: req.NodeName, UID: req.NodeUID}
		}
	case "Secret":
		to.Secret = bound
	case "Node":
		to.Node = bound
	}
}
