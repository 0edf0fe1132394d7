package apiserver_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// lock decrypts only while it's open.
type lock struct{ open atomic.Bool }

func (l *lock) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) { return data, nil }

func (l *lock) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	if !l.open.Load() {
		return nil, false, errors.New("no matching key was found for the provided Secretbox transformer")
	}
	return data, false, nil
}

func TestWhatCannotBeDecryptedFailsTheRequestsItConcerns(t *testing.T) {
	l := &lock{}
	s := storetest.New(t)
	f := newFixtureOver(t, apiserver.Config{Store: s, Rows: []*api.Resource{core.ConfigMaps, core.Secrets}, Security: admin(),
		Transformer: func(gr schema.GroupResource) store.Transformer {
			if gr.Resource == "secrets" {
				return l
			}
			return nil
		}})
	const path = "/api/v1/namespaces/ns/secrets"
	create := func(path, body string) {
		t.Helper()
		answer, err := f.http.Client().Post(f.http.URL+path, "application/json", strings.NewReader(body))
		if err != nil || answer.StatusCode != http.StatusCreated {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
	}
	l.open.Store(true)
	create("/api/v1/namespaces/elsewhere/secrets", `{"metadata":{"name":"plain"}}`)
	create(path, `{"metadata":{"name":"before"}}`)
	if _, err := s.Sync(t.Context()); err != nil { // it has been read
		t.Fatal(err)
	}
	l.open.Store(false)
	create(path, `{"metadata":{"name":"x"}}`)

	const one = `"Internal error occurred: no matching key was found for the provided Secretbox transformer"`
	const many = `"Internal error occurred: unable to transform key \"/registry/secrets/ns/x\": no matching key was found for the provided Secretbox transformer"`
	expect := func(method, path string, code int, text string) {
		t.Helper()
		if answer, body := zpageAnswer(t, f, method, path, ""); answer.StatusCode != code || !strings.Contains(body, text) {
			t.Errorf("%s %s: %d %s", method, path, answer.StatusCode, body)
		}
	}
	for _, query := range []string{"", "?limit=1", "?resourceVersion=0", "?labelSelector=a%3Db"} {
		expect(http.MethodGet, path+query, 500, many)
	}
	for _, query := range []string{"?watch=1", "?watch=1&resourceVersion=0"} {
		expect(http.MethodGet, path+query, 200, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":`+many)
	}
	expect(http.MethodGet, "/api/v1/secrets", 500, many)
	expect(http.MethodGet, path+"/x", 500, one)
	expect(http.MethodDelete, path+"/x", 500, one)
	expect(http.MethodGet, path+"/before", 200, `"before"`)
	expect(http.MethodGet, "/api/v1/namespaces/elsewhere/secrets", 200, `"plain"`)
	expect(http.MethodGet, "/api/v1/configmaps", 200, `"items":[]`)

	l.open.Store(true)
	if err := s.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(http.MethodGet, path, 200, `"x"`)
	expect(http.MethodGet, path+"/x", 200, `"x"`)
}

func TestASubscriberGoesOnWhenATableWasReadAnew(t *testing.T) {
	l := &lock{}
	s := storetest.New(t)
	f := newFixtureOver(t, apiserver.Config{Store: s, Rows: []*api.Resource{core.Secrets}, Security: admin(),
		Transformer: func(schema.GroupResource) store.Transformer { return l }})
	c := f.Client(administrator)
	create := func(name string) {
		t.Helper()
		if _, err := client.Secrets.Create(t.Context(), c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	l.open.Store(true)
	create("before")
	if _, err := client.Secrets.Get(t.Context(), c, "ns", "before"); err != nil { // it has been read
		t.Fatal(err)
	}
	l.open.Store(false)
	create("hidden")
	view, err := client.Secrets.View(t.Context(), c, client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan string, 10)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	done.Go(func() {
		name := func(s *corev1.Secret) string {
			if s == nil {
				return "nothing"
			}
			return s.Name
		}
		if err := view.Subscribe(ctx, func(old, now *corev1.Secret) { changes <- name(old) + " to " + name(now) }); err != context.Canceled {
			t.Errorf("the subscription ended: %v", err)
		}
	})
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %s", want)
		}
	}
	expect("nothing to before")
	l.open.Store(true)
	if err := s.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("nothing to hidden")
	if err := client.Secrets.Delete(t.Context(), c, "ns", "before", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("before to nothing")
}
