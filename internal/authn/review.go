package authn

import (
	"context"
	"errors"
	"net/http"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/api"
)

// ReviewToken tells whose token this is, for TokenReview: it serves api.Env. No audiences are this server's own. With ok false, err says why.
func (a *Authenticator) ReviewToken(ctx context.Context, token string, audiences []string) (u api.UserInfo, auds []string, ok bool, err error) {
	if len(audiences) == 0 {
		audiences = a.cfg.Audiences
	}
	ctx = WithNotes(ctx, nil) // the token isn't that of the review's own request
	req := (&http.Request{Header: http.Header{}}).WithContext(authenticator.WithAudiences(ctx, audiences))
	req.Header.Set("Authorization", "Bearer "+token)
	resp, ok, err := a.bearer(req)
	if err != nil {
		// Upstream's server asks who it is itself first, and tells that refusal too.
		err = utilerrors.NewAggregate([]error{errInvalidToken, err})
	}
	if err != nil || !ok {
		return api.UserInfo{}, nil, false, err
	}
	resp = authenticated(resp)
	if len(authenticator.Audiences(audiences).Intersect(resp.Audiences)) == 0 {
		return api.UserInfo{}, nil, false, errors.New("error validating token: token audiences do not match the requested audiences")
	}
	return UserInfo(resp.User), resp.Audiences, true, nil
}

// UserInfo turns the library's user into the contracts'.
func UserInfo(u user.Info) api.UserInfo {
	return api.UserInfo{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
}

// User turns the contracts' user into the library's.
func User(u api.UserInfo) user.Info {
	return &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}
