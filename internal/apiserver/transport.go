package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"clipper.dev/clipper/internal/api"
)

// Transport sends requests to the server itself, as a user and inside the process. It is for what a Client can't say: subresources of any kind, and
// groups that other servers may serve. An answer is held as a whole, so it isn't for watches and streams.
func (s *Server) Transport(user api.UserInfo) http.RoundTripper { return &localTransport{s, user} }

type localTransport struct {
	s    *Server
	user api.UserInfo
}

type insiderKey struct{}

// insider returns the user that a request comes from which never was on a wire.
func insider(ctx context.Context) (api.UserInfo, bool) {
	u, ok := ctx.Value(insiderKey{}).(api.UserInfo)
	return u, ok
}

// RoundTrip implements http.RoundTripper.
func (t *localTransport) RoundTrip(r *http.Request) (answered *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	inside := r.Clone(context.WithValue(r.Context(), insiderKey{}, t.user))
	inside.RequestURI, inside.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if inside.Body == nil {
		inside.Body = http.NoBody
	}
	answer := &heldAnswer{header: http.Header{}}
	defer inside.Body.Close()
	defer func() {
		if v := recover(); v == http.ErrAbortHandler { //nolint:errorlint // net/http panics with this very value
			answered, err = nil, fmt.Errorf("%s %s: the answer was cut off", r.Method, r.URL.Path)
		} else if v != nil {
			panic(v)
		}
	}()
	t.s.serveHTTP(answer, inside)
	if answer.code == 0 {
		answer.code = http.StatusOK
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", answer.code, http.StatusText(answer.code)), StatusCode: answer.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.header, Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len()), Request: r,
	}, nil
}

// heldAnswer is a response that is kept in memory.
type heldAnswer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *heldAnswer) Header() http.Header { return a.header }

func (a *heldAnswer) WriteHeader(code int) {
	if a.code == 0 && code >= http.StatusOK {
		a.code = code
	}
}

func (a *heldAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// Flush implements http.Flusher: there is nothing that could wait.
func (a *heldAnswer) Flush() {}
