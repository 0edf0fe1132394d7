package apiserver_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestHealthTellsWhatFails(t *testing.T) {
	f := newFixture(t)
	f.AddCheck("mood", false, func(context.Context) error { return errors.New("gloomy") })
	f.Handle("/own/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) }))
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/livez":                      {200, "ok"},
		"/livez?verbose":              {200, "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n"},
		"/readyz":                     {500, "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]shutdown ok\n[-]mood failed: reason withheld\nreadyz check failed\n"},
		"/readyz?exclude=mood":        {200, "ok"},
		"/readyz/ping":                {200, "ok"},
		"/readyz/none":                {404, "404 page not found\n"},
		"/own/thing":                  {200, "/own/thing"},
		"/nothing":                    {404, "404 page not found\n"},
		"/apis/no.such.group/v1":      {404, "404 page not found\n"},
		"/apis/no.such.group/v1/pods": {404, "404 page not found\n"},
	} {
		code, body := fetch(t, f, path)
		if code != want.code || body != want.body {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, body := fetch(t, f, "/metrics"); code != 200 || !strings.Contains(body, "apiserver_request_total{") {
		t.Errorf("metrics: %d %.200s", code, body)
	}
}

func TestAPathsTypesAreAllThatCanBeAskedOfIt(t *testing.T) {
	f := newFixture(t)
	f.Handle("/keys", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "keys") }), "application/jwk-set+json")
	for accept, want := range map[string]int{"": 200, "*/*": 200, "application/jwk-set+json, text/plain": 200, "application/json": 406} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.http.URL+"/keys", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		answer, err := f.http.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want || want == 406 && !strings.Contains(string(body), `406: Not Acceptable\n\nAvailable representations: application/jwk-set+json`) {
			t.Errorf("%q: %d %s", accept, answer.StatusCode, body)
		}
	}
}

func fetch(t *testing.T, f *fixture, path string) (int, string) {
	t.Helper()
	answer, err := f.http.Client().Get(f.http.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body strings.Builder
	if _, err := copyTo(&body, answer); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, body.String()
}

func TestHostileInputIsRefusedPromptly(t *testing.T) {
	f := newFixture(t)
	post := func(contentType, body string) (int, string) {
		answer, err := f.http.Client().Post(f.http.URL+mapsPath, contentType, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var text strings.Builder
		if _, err := copyTo(&text, answer); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, text.String()
	}
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		laughs += string(c) + ": &" + string(c) + " [*" + strings.Repeat(p+",*", 8) + p + "]\n"
	}
	for name, test := range map[string]struct {
		contentType, body string
		code              int
	}{
		"a huge body":         {"application/json", strings.Repeat(" ", 4<<20), 413},
		"a billion laughs":    {"application/yaml", laughs, 400},
		"deep nesting":        {"application/json", strings.Repeat("[", 100000), 400},
		"broken protobuf":     {"application/vnd.kubernetes.protobuf", "k8s\x00\xff\xff\xff", 400},
		"an unknown encoding": {"text/plain", "hello", 415},
		"a climbing name":     {"application/json", `{"metadata":{"name":"../x"}}`, 422},
	} {
		if code, body := post(test.contentType, test.body); code != test.code {
			t.Errorf("%s: %d %.300s", name, code, body)
		}
	}
}

func copyTo(w *strings.Builder, answer *http.Response) (int64, error) { return io.Copy(w, answer.Body) }
