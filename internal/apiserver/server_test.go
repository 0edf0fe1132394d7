package apiserver_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store/storetest"
)

// fixture is a server over a real store, reached over TLS.
type fixture struct {
	*apiserver.Server
	http *httptest.Server
}

// admin lets everybody in as an administrator, unless a header names another user.
func admin() apiserver.Security {
	return apiserver.Security{
		Authenticator: authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			name, groups := r.Header.Get("X-Test-User"), []string{user.AllAuthenticated}
			if name == "" {
				name, groups = "admin", []string{user.SystemPrivilegedGroup, user.AllAuthenticated}
			}
			return &authenticator.Response{User: &user.DefaultInfo{Name: name, Groups: groups}}, true, nil
		}),
		Authorizer: authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, "", nil
		}),
	}
}

func newFixture(t testing.TB, rows ...*api.Resource) *fixture {
	t.Helper()
	if len(rows) == 0 {
		rows = []*api.Resource{core.ConfigMaps}
	}
	return newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: rows, Security: admin()})
}

func newFixtureOver(t testing.TB, cfg apiserver.Config) *fixture {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	srv, err := apiserver.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(ctx) }()
	f := &fixture{Server: srv, http: httptest.NewUnstartedServer(srv.Handler())}
	f.http.EnableHTTP2 = true
	f.http.StartTLS()
	t.Cleanup(func() {
		cancel()
		<-stopped
		f.http.Close()
	})
	return f
}

// config is for client-go; contentType "" is JSON.
func (f *fixture) config(contentType string) *rest.Config {
	c := &rest.Config{Host: f.http.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
	if contentType == "" {
		contentType = runtime.ContentTypeJSON // client-go itself would choose protobuf
	}
	c.ContentType, c.AcceptContentTypes = contentType, contentType+",application/json"
	return c
}

func (f *fixture) clients(t testing.TB, contentType string) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(f.config(contentType))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forms are the encodings that clients speak.
var forms = map[string]string{"json": "", "protobuf": runtime.ContentTypeProtobuf}

func cm(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: data}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func nameOf(i int) string { return fmt.Sprintf("cm-%04d", i) }
