package authn

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// bearer takes the token from the Authorization header, and the header from the request once it was good.
func (a *Authenticator) bearer(req *http.Request) (*authenticator.Response, bool, error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(req.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return nil, false, nil
	}
	token, _, more := strings.Cut(rest, " ")
	if token == "" {
		if more {
			warn(req.Context(), "the provided Authorization header contains extra space before the bearer token, and is ignored")
		}
		return nil, false, nil
	}
	resp, ok, err := a.AuthenticateToken(req.Context(), token)
	if ok {
		req.Header.Del("Authorization")
	} else if err == nil {
		err = errInvalidToken
	}
	return resp, ok, err
}

const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// webSocketBearer takes the token from a WebSocket's subprotocols, where browsers must put it.
func (a *Authenticator) webSocketBearer(req *http.Request) (*authenticator.Response, bool, error) {
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		return nil, false, nil
	}
	token, others, err := protocolToken(req.Header["Sec-Websocket-Protocol"])
	if err != nil || token == "" {
		return nil, false, err
	}
	resp, ok, err := a.AuthenticateToken(req.Context(), token)
	if ok {
		req.Header.Set("Sec-Websocket-Protocol", strings.Join(others, ","))
	} else if err == nil {
		err = errInvalidToken
	}
	return resp, ok, err
}

func protocolToken(headers []string) (token string, others []string, err error) {
	seen := false
	for _, p := range strings.Split(strings.Join(headers, ","), ",") {
		p = strings.TrimSpace(p)
		encoded, ok := strings.CutPrefix(p, bearerProtocol)
		if !ok {
			if p != "" {
				others = append(others, p)
			}
			continue
		}
		if seen {
			return "", nil, errors.New("multiple base64.bearer.authorization tokens specified")
		}
		seen = true
		decoded, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil {
			return "", nil, errors.New("invalid base64.bearer.authorization token encoding")
		}
		if !utf8.Valid(decoded) {
			return "", nil, errors.New("invalid base64.bearer.authorization token")
		}
		token = string(decoded)
	}
	if token != "" && len(others) == 0 {
		return "", nil, errors.New("missing additional subprotocol")
	}
	return token, others, nil
}
