package authn

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// AnonymousConfig says where a request may come from nobody. Its zero value allows it everywhere, as upstream does:
// authorization then decides what nobody may see.
type AnonymousConfig struct {
	Disabled bool
	// Paths, when not empty, are the only ones.
	Paths []string
}

type anonymous struct {
	disabled bool
	paths    map[string]bool // nil is any
}

func newAnonymous(cfg AnonymousConfig) *anonymous {
	a := &anonymous{disabled: cfg.Disabled}
	for _, p := range cfg.Paths {
		if a.paths == nil {
			a.paths = map[string]bool{}
		}
		a.paths[p] = true
	}
	return a
}

func (a *anonymous) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if a.disabled || a.paths != nil && !a.paths[req.URL.Path] {
		return nil, false, nil
	}
	audiences, _ := authenticator.AudiencesFrom(req.Context())
	return &authenticator.Response{
		User:      &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}},
		Audiences: audiences,
	}, true, nil
}
