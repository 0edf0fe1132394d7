// Package storetest gives tests a store over a real etcd, and a simple kind of object to put into it.
//
// A fresh embedded etcd starts in some hundredths of a second, so that a test need not share one:
//
//	s := storetest.New(t)
//	pods, err := s.AddTable(t.Context(), store.TableConfig{Prefix: "pods", Kind: storetest.Kind{}})
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/store"
)

// New opens a store with an empty embedded etcd in a temporary directory. It closes itself when the test ends.
func New(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, Config(t, t.TempDir()))
}

// Config is New's configuration, for tests that change something in it or open the same directory again.
// It sets no disk space aside and does not compact by itself.
func Config(t testing.TB, dir string) store.Config {
	t.Helper()
	return store.Config{
		Dir: dir, ReserveBytes: -1, CompactEvery: -1,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

// Open opens a store that closes itself when the test ends, if the test has not done so.
func Open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// Object is what Kind stores.
type Object struct {
	APIVersion        string            `json:"apiVersion"`
	Kind              string            `json:"kind"`
	metav1.ObjectMeta `json:"metadata"` // names, labels, owners
	Fields            map[string]string `json:"fields,omitempty"` // selectable
	Data              string            `json:"data,omitempty"`
}

// Value is the object as etcd holds it.
func (o Object) Value() []byte {
	o.APIVersion, o.Kind = "test.clipper.dev/v1", "Thing"
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("an object that cannot be encoded: %v", err))
	}
	return b
}

// Named is an object with a name and some data.
func Named(namespace, name, data string) Object {
	return Object{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
}

// Kind is a store.Kind for Object, in JSON. Note is put into each object's annotations, so that a test can tell which
// Kind made the bytes.
type Kind struct{ Note string }

// Open implements store.Kind.
func (k Kind) Open(value []byte, revision int64) ([]byte, store.Record, error) {
	var o Object
	if err := json.Unmarshal(value, &o); err != nil {
		return nil, store.Record{}, fmt.Errorf("decode a test object: %w", err)
	}
	o.ResourceVersion = strconv.FormatInt(revision, 10)
	if k.Note != "" {
		o.Annotations = map[string]string{"note": k.Note}
	}
	return o.Value(), store.Record{
		Namespace: o.Namespace, Name: o.Name, UID: o.UID, Labels: o.Labels, Owners: o.OwnerReferences,
		Fields: o.Fields, Deleting: o.DeletionTimestamp != nil,
	}, nil
}

// At implements store.Kind.
func (k Kind) At(raw []byte, revision int64) ([]byte, error) {
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("decode a test object: %w", err)
	}
	o.ResourceVersion = strconv.FormatInt(revision, 10)
	return o.Value(), nil
}

// Decode implements store.Kind.
func (k Kind) Decode(raw []byte) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("decode a test object: %w", err)
	}
	return u, nil
}

// Data is the data of an entry that Kind made.
func Data(t testing.TB, e *store.Entry) string {
	t.Helper()
	var o Object
	if err := json.Unmarshal(e.Raw(), &o); err != nil {
		t.Fatal(err)
	}
	if o.ResourceVersion != strconv.FormatInt(e.Revision(), 10) {
		t.Fatalf("%s says resourceVersion %s at revision %d", e.Key(), o.ResourceVersion, e.Revision())
	}
	return o.Data
}
