package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/client"
)

// sink is a ResponseWriter that keeps nothing, so that benchmarks measure the engine alone.
type sink struct {
	header http.Header
	code   int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(code int)        { s.code = code }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) Flush()                      {}

func serve(b *testing.B, h http.Handler, r *http.Request, want int) {
	b.Helper()
	w := &sink{header: http.Header{}}
	h.ServeHTTP(w, r)
	if w.code != want {
		b.Fatalf("%s %s: %d, want %d", r.Method, r.URL, w.code, want)
	}
}

func get(path, accept string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept", accept)
	return r
}

var administrator = api.UserInfo{Name: "admin", Groups: []string{"system:masters"}}

func fill(b *testing.B, f *fixture, n int) {
	b.Helper()
	c := f.Client(administrator)
	for i := range n {
		o := cm(nameOf(i), map[string]string{"data": strings.Repeat("x", 1000)})
		o.Labels = map[string]string{"app": fmt.Sprintf("app-%d", i%10), "tier": "back"}
		if _, err := client.ConfigMaps.Create(context.Background(), c, o); err != nil {
			b.Fatal(err)
		}
	}
}

const (
	mapsPath = "/api/v1/namespaces/default/configmaps"
	protobuf = "application/vnd.kubernetes.protobuf"
)

func BenchmarkGet(b *testing.B) {
	f := newFixture(b)
	fill(b, f, 100)
	h := f.Handler()
	for _, accept := range []string{protobuf, "application/json"} {
		b.Run(accept, func(b *testing.B) {
			for b.Loop() {
				serve(b, h, get(mapsPath+"/"+nameOf(7), accept), http.StatusOK)
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	f := newFixture(b)
	fill(b, f, 5000)
	h := f.Handler()
	for name, query := range map[string]string{"all": "", "by label": "?labelSelector=app=app-3"} {
		for _, gzip := range []string{"", "gzip"} {
			b.Run(name+" "+gzip, func(b *testing.B) {
				for b.Loop() {
					r := get(mapsPath+query, protobuf)
					r.Header.Set("Accept-Encoding", gzip)
					serve(b, h, r, http.StatusOK)
				}
			})
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	f := newFixture(b)
	h := f.Handler()
	o := cm("", map[string]string{"data": strings.Repeat("x", 1000)})
	o.GenerateName = "bench-"
	body, err := o.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	var envelope bytes.Buffer
	envelope.Write(wire.AppendEnvelope(nil, "v1", "ConfigMap", body))
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, mapsPath, bytes.NewReader(envelope.Bytes()))
		r.Header.Set("Content-Type", protobuf)
		r.Header.Set("Accept", protobuf)
		serve(b, h, r, http.StatusCreated)
	}
}

func BenchmarkUpdate(b *testing.B) {
	f := newFixture(b)
	fill(b, f, 1)
	ctx := context.Background()
	c := f.Client(administrator)
	o, err := client.ConfigMaps.Get(ctx, c, "default", nameOf(0))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		next := o.DeepCopy()
		next.Data["n"] = fmt.Sprint(i)
		if o, err = client.ConfigMaps.Update(ctx, c, next); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatchDelivery counts one delivery to one of a thousand watchers of an object.
func BenchmarkWatchDelivery(b *testing.B) {
	const watchers = 1000
	f := newFixture(b)
	fill(b, f, 1)
	h := f.Handler()
	ctx, cancel := context.WithCancel(context.Background())
	delivered := make(chan struct{}, 1<<16)
	for range watchers {
		r := get(mapsPath+"?watch=true&fieldSelector=metadata.name%3D"+nameOf(0), protobuf).WithContext(ctx)
		go h.ServeHTTP(&countingSink{sink{header: http.Header{}}, delivered}, r)
	}
	for range watchers {
		<-delivered // the initial event
	}
	c := f.Client(administrator)
	o, err := client.ConfigMaps.Get(ctx, c, "default", nameOf(0))
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		if n%watchers == 0 {
			next := o.DeepCopy()
			next.Data["n"] = fmt.Sprint(n)
			if o, err = client.ConfigMaps.Update(ctx, c, next); err != nil {
				b.Fatal(err)
			}
		}
		<-delivered
		n++
	}
	cancel()
}

type countingSink struct {
	sink
	delivered chan struct{}
}

func (s *countingSink) Write(b []byte) (int, error) {
	s.delivered <- struct{}{}
	return len(b), nil
}
