package apiserver_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// newStoreFixture also gives the store, for tests of its history.
func newStoreFixture(t *testing.T) (*fixture, *store.Store) {
	t.Helper()
	st := storetest.New(t)
	return newFixtureOver(t, apiserver.Config{Store: st, Rows: []*api.Resource{core.ConfigMaps}, Security: admin()}), st
}

func TestListsReadTheStateThatIsAskedFor(t *testing.T) {
	ctx := context.Background()
	f, _ := newStoreFixture(t)
	maps := f.clients(t, "").CoreV1().ConfigMaps("default")
	first := must(maps.Create(ctx, cm("a", nil), metav1.CreateOptions{}))(t).ResourceVersion
	second := must(maps.Create(ctx, cm("b", nil), metav1.CreateOptions{}))(t).ResourceVersion
	future := strconv.Itoa(1 << 40)
	for name, test := range map[string]struct {
		options metav1.ListOptions
		items   int
		version string // "" is any
		err     string
	}{
		"nothing":                    {metav1.ListOptions{}, 2, second, ""},
		"zero":                       {metav1.ListOptions{ResourceVersion: "0"}, 2, "", ""},
		"zero with limit":            {metav1.ListOptions{ResourceVersion: "0", Limit: 1}, 2, "", ""},
		"a version":                  {metav1.ListOptions{ResourceVersion: first}, 2, second, ""},
		"a version with limit":       {metav1.ListOptions{ResourceVersion: first, Limit: 5}, 1, first, ""},
		"exact":                      {metav1.ListOptions{ResourceVersion: first, ResourceVersionMatch: "Exact"}, 1, first, ""},
		"exact with limit":           {metav1.ListOptions{ResourceVersion: second, ResourceVersionMatch: "Exact", Limit: 1}, 1, second, ""},
		"not older than":             {metav1.ListOptions{ResourceVersion: first, ResourceVersionMatch: "NotOlderThan"}, 2, second, ""},
		"not older than with limit":  {metav1.ListOptions{ResourceVersion: first, ResourceVersionMatch: "NotOlderThan", Limit: 1}, 1, second, ""},
		"exact future":               {metav1.ListOptions{ResourceVersion: future, ResourceVersionMatch: "Exact"}, 0, "", "Timeout: Too large resource version: " + future + ", current: "},
		"exact without a version":    {metav1.ListOptions{ResourceVersionMatch: "Exact"}, 0, "", `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided`},
		"exact zero":                 {metav1.ListOptions{ResourceVersion: "0", ResourceVersionMatch: "Exact"}, 0, "", `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"`},
		"no number":                  {metav1.ListOptions{ResourceVersion: "x"}, 0, "", `invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax`},
		"a broken continue":          {metav1.ListOptions{Continue: "?"}, 0, "", "invalid continue token: continue key is not valid: illegal base64 data at input byte 0"},
		"a continue with a version":  {metav1.ListOptions{Continue: "x", ResourceVersion: "5"}, 0, "", "invalid continue"},
		"a continue that climbs out": {metav1.ListOptions{Continue: base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets"}`))}, 0, "", "invalid continue token: continue key is not valid: ../secrets"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := maps.List(ctx, test.options)
			if test.err != "" {
				if err == nil || len(err.Error()) < len(test.err) || err.Error()[:len(test.err)] != test.err {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != test.items || test.version != "" && list.ResourceVersion != test.version {
				t.Errorf("%d items at %s", len(list.Items), list.ResourceVersion)
			}
		})
	}
}

func TestWhatIsCompactedIsGone(t *testing.T) {
	ctx := context.Background()
	f, st := newStoreFixture(t)
	maps := f.clients(t, "").CoreV1().ConfigMaps("default")
	for i := range 5 {
		must(maps.Create(ctx, cm(nameOf(i), nil), metav1.CreateOptions{}))(t)
	}
	page := must(maps.List(ctx, metav1.ListOptions{Limit: 2}))(t)
	// The store remembers some states itself: only what lies beyond them and is compacted is gone.
	for i := range 50 {
		o := must(maps.Get(ctx, nameOf(4), metav1.GetOptions{}))(t)
		o.Data = map[string]string{"n": strconv.Itoa(i)}
		must(maps.Update(ctx, o, metav1.UpdateOptions{}))(t)
	}
	if err := st.Compact(ctx, st.Revision()); err != nil {
		t.Fatal(err)
	}
	list, err := maps.List(ctx, metav1.ListOptions{Limit: 2, Continue: page.Continue})
	if err == nil {
		t.Skipf("the store still has the state (%d items)", len(list.Items))
	}
	status, ok := err.(apierrors.APIStatus)
	if !apierrors.IsResourceExpired(err) || !ok || status.Status().Continue == "" || status.Status().Code != http.StatusGone {
		t.Fatalf("got %v", err)
	}
	rest := must(maps.List(ctx, metav1.ListOptions{Continue: status.Status().Continue}))(t)
	if len(rest.Items) != 3 {
		t.Errorf("going on in the newest state: %d items", len(rest.Items))
	}
}

func TestWatchesBeginWhereTheyAreAskedTo(t *testing.T) {
	ctx := context.Background()
	f, _ := newStoreFixture(t)
	maps := f.clients(t, "").CoreV1().ConfigMaps("default")
	a := must(maps.Create(ctx, cm("a", nil), metav1.CreateOptions{}))(t)
	must(maps.Create(ctx, cm("b", nil), metav1.CreateOptions{}))(t)
	no, yes := false, true
	for name, test := range map[string]struct {
		options metav1.ListOptions
		want    []string // names of what comes before the mark
	}{
		"from nothing":           {metav1.ListOptions{}, []string{"a", "b"}},
		"from zero":              {metav1.ListOptions{ResourceVersion: "0"}, []string{"a", "b"}},
		"from a version":         {metav1.ListOptions{ResourceVersion: a.ResourceVersion}, []string{"b"}},
		"without initial events": {metav1.ListOptions{SendInitialEvents: &no, ResourceVersionMatch: "NotOlderThan"}, nil},
		"with initial events":    {metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: "NotOlderThan", ResourceVersion: a.ResourceVersion}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := must(maps.Watch(ctx, test.options))(t)
			defer w.Stop()
			mark := must(maps.Create(ctx, cm("mark", nil), metav1.CreateOptions{}))(t)
			defer func() {
				if err := maps.Delete(ctx, mark.Name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}()
			var got []string
			for e := range w.ResultChan() {
				o := e.Object.(metav1.Object)
				if o.GetUID() == mark.UID {
					break
				}
				if e.Type == watch.Added && (o.GetName() == "a" || o.GetName() == "b") {
					got = append(got, o.GetName())
				}
			}
			if len(got) != len(test.want) || len(got) > 0 && got[0] != test.want[0] {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAWatchEndsInTime(t *testing.T) {
	ctx := context.Background()
	f, _ := newStoreFixture(t)
	second := int64(1)
	w := must(f.clients(t, "").CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: &second}))(t)
	for e := range w.ResultChan() {
		t.Errorf("got %v", e)
	}
}
