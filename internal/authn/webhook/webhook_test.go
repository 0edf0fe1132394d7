package webhook

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"clipper.dev/clipper/internal/reviewer"
)

func TestAnotherServerKnowsTokens(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  authenticationv1.TokenReviewStatus
		code    int
		wanted  authenticator.Audiences
		want    *authenticator.Response
		refused string
		asked   int32
	}{
		{name: "a user", status: authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "jane", UID: "1", Groups: []string{"g"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}},
			want: &authenticator.Response{User: &user.DefaultInfo{Name: "jane", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}}, Audiences: authenticator.Audiences{"own"}}, asked: 1},
		{name: "for this server's audiences, where it knows none", status: authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "jane"}}, wanted: authenticator.Audiences{"own", "x"},
			want: &authenticator.Response{User: &user.DefaultInfo{Name: "jane"}, Audiences: authenticator.Audiences{"own"}}, asked: 1},
		{name: "for other audiences", status: authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"y"}}, wanted: authenticator.Audiences{"own"}, asked: 1},
		{name: "for another server, where nobody asks for what", status: authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"y"}}, asked: 1},
		{name: "nobody", asked: 1},
		{name: "nobody, with a reason", status: authenticationv1.TokenReviewStatus{Error: "expired"}, refused: "expired", asked: 1},
		{name: "no answer, which is not remembered", code: http.StatusForbidden, refused: "ask the authentication webhook", asked: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				var review authenticationv1.TokenReview
				if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.APIVersion != "authentication.k8s.io/v1beta1" || review.Spec.Token != "secret" {
					t.Errorf("got %+v, %v", review, err)
				}
				if c.code != 0 {
					w.WriteHeader(c.code)
					return
				}
				review.Status = c.status
				if err := json.NewEncoder(w).Encode(review); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			r, err := reviewer.New(&rest.Config{Host: server.URL}, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			w, err := New(r, Config{Version: "v1beta1", CacheTTL: time.Minute, Audiences: authenticator.Audiences{"own"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if c.wanted != nil {
				ctx = authenticator.WithAudiences(ctx, c.wanted)
			}
			for range 2 {
				resp, ok, err := w.AuthenticateToken(ctx, "secret")
				if c.refused != "" {
					if err == nil || ok || err.Error()[:min(len(err.Error()), len(c.refused))] != c.refused {
						t.Errorf("got %v, %v", ok, err)
					}
					continue
				}
				if err != nil || ok != (c.want != nil) || ok && !reflect.DeepEqual(resp, c.want) {
					t.Errorf("got %+v, %v, %v", resp, ok, err)
				}
			}
			if asked.Load() != c.asked {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}
