package apiserver_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/managed"
	"clipper.dev/clipper/internal/store/storetest"
)

func TestAFullPageGoesOnWhatever(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	for name, label := range map[string]string{"a": "yes", "b": "yes", "c": "no"} {
		o := cm(name, nil)
		o.Labels = map[string]string{"chosen": label}
		must(maps.Create(ctx, o, metav1.CreateOptions{}))(t)
	}
	for _, tc := range []struct {
		name string
		opts metav1.ListOptions
		more bool
	}{
		{"comes_after_it_that_is_not_chosen", metav1.ListOptions{LabelSelector: "chosen=yes", Limit: 2}, true},
		{"and_ends_with_the_last_object", metav1.ListOptions{LabelSelector: "chosen=no", Limit: 1}, false},
		{"but_not_one_that_is_not_full", metav1.ListOptions{LabelSelector: "chosen=yes", Limit: 3}, false},
		{"by_fields", metav1.ListOptions{FieldSelector: "metadata.name!=c", Limit: 2}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := must(maps.List(ctx, tc.opts))(t)
			if more := list.Continue != ""; more != tc.more || list.RemainingItemCount != nil {
				t.Errorf("goes on: %t, remaining %v", more, list.RemainingItemCount)
			}
		})
	}
	t.Run("unless_any_state_will_do", func(t *testing.T) {
		first := must(maps.List(ctx, metav1.ListOptions{Limit: 1}))(t)
		rest := must(maps.List(ctx, metav1.ListOptions{Limit: 1, Continue: first.Continue, ResourceVersion: "0"}))(t)
		if len(rest.Items) != 2 || rest.Continue != "" {
			t.Errorf("%d items, continue %q", len(rest.Items), rest.Continue)
		}
	})
	t.Run("one_object_is_the_newest", func(t *testing.T) {
		old := must(maps.Create(ctx, cm("old", nil), metav1.CreateOptions{}))(t)
		must(maps.Create(ctx, cm("d", nil), metav1.CreateOptions{}))(t)
		list := must(maps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=d", ResourceVersion: old.ResourceVersion, Limit: 1}))(t)
		if len(list.Items) != 1 {
			t.Errorf("got %v", list.Items)
		}
	})
}

func TestAnEmptyListOfMetadataHasNullItems(t *testing.T) {
	f := newFixture(t)
	req := must(http.NewRequest(http.MethodGet, f.http.URL+"/api/v1/configmaps", nil))(t)
	req.Header.Set("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	resp := must(f.http.Client().Do(req))(t)
	defer resp.Body.Close()
	body := must(io.ReadAll(resp.Body))(t)
	var list struct{ Items json.RawMessage }
	if err := json.Unmarshal(body, &list); err != nil || string(list.Items) != "null" {
		t.Errorf("got %s", body)
	}
}

func TestAPathOfWatchesTakesTheOptionsOfLists(t *testing.T) {
	f := newFixture(t)
	resp := must(f.http.Client().Get(f.http.URL + "/api/v1/watch/configmaps?resourceVersion=0&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&allowWatchBookmarks=true"))(t)
	defer resp.Body.Close()
	body := must(io.ReadAll(resp.Body))(t)
	if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(body), "sendInitialEvents is forbidden for list") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

func applying(t *testing.T) *fixture {
	rows := []*api.Resource{core.ConfigMaps}
	tracker := must(managed.New(rows, nil))(t)
	return newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: rows, Security: admin(), Tracker: tracker})
}

// A manifest that was exported from another cluster has a version of that one's.
func TestWhatIsAppliedIsCreatedWhateverItsVersion(t *testing.T) {
	ctx := context.Background()
	maps := applying(t).clients(t, "").CoreV1().ConfigMaps("default")
	o := must(maps.Patch(ctx, "moved", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"moved","resourceVersion":"12345"}}`), metav1.PatchOptions{FieldManager: "test"}))(t)
	if o.ResourceVersion == "12345" || o.UID == "" {
		t.Errorf("got %+v", o.ObjectMeta)
	}
}

func TestWhoRemovesTheLastFinalizerSeesTheObjectAsItWasSent(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	o := cm("held", nil)
	o.Finalizers = []string{"example.com/hold"}
	must(maps.Create(ctx, o, metav1.CreateOptions{}))(t)
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held := must(maps.Get(ctx, "held", metav1.GetOptions{}))(t)
	held.Finalizers = nil
	last := must(maps.Update(ctx, held, metav1.UpdateOptions{}))(t)
	if last.ResourceVersion != held.ResourceVersion {
		t.Errorf("got version %s, want %s", last.ResourceVersion, held.ResourceVersion)
	}
}

func TestAPodThatIsDeletedAtOnceIsMarkedBefore(t *testing.T) {
	ctx := context.Background()
	pods := newFixture(t, testPods).clients(t, "").CoreV1().Pods("default")
	created := must(pods.Create(ctx, pod("p", "node"), metav1.CreateOptions{}))(t)
	w := must(pods.Watch(ctx, metav1.ListOptions{ResourceVersion: created.ResourceVersion}))(t)
	defer w.Stop()
	if err := pods.Delete(ctx, "p", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Modified, watch.Deleted} {
		e := <-w.ResultChan()
		o, ok := e.Object.(metav1.Object)
		if !ok || e.Type != want || o.GetDeletionTimestamp() == nil || o.GetDeletionGracePeriodSeconds() == nil || *o.GetDeletionGracePeriodSeconds() != 0 {
			t.Errorf("got %s of %+v, want %s", e.Type, e.Object, want)
		}
	}
	if _, err := pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// A node removes a pod as soon as it sees the mark, if nothing of it runs.
func TestAPodThatItsNodeRemovesMeanwhileIsDeletedAllTheSame(t *testing.T) {
	ctx := context.Background()
	pods := newFixture(t, testPods).clients(t, "").CoreV1().Pods("default")
	start := must(pods.List(ctx, metav1.ListOptions{}))(t)
	w := must(pods.Watch(ctx, metav1.ListOptions{ResourceVersion: start.ResourceVersion}))(t)
	var node sync.WaitGroup
	node.Go(func() {
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || e.Type != watch.Modified || p.DeletionTimestamp == nil {
				continue
			}
			o := metav1.NewDeleteOptions(0)
			o.Preconditions = metav1.NewUIDPreconditions(string(p.UID))
			if err := pods.Delete(ctx, p.Name, *o); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				t.Error(err)
			}
		}
	})
	defer node.Wait()
	defer w.Stop()
	for range 300 {
		must(pods.Create(ctx, pod("p", "node"), metav1.CreateOptions{}))(t)
		if err := pods.Delete(ctx, "p", *metav1.NewDeleteOptions(0)); err != nil {
			t.Fatal(err)
		}
	}
}
