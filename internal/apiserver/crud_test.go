package apiserver_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func TestAnObjectLivesFromCreateToDelete(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx := context.Background()
			maps := newFixture(t).clients(t, contentType).CoreV1().ConfigMaps("default")
			created := must(maps.Create(ctx, cm("a", map[string]string{"k": "1"}), metav1.CreateOptions{}))(t)
			if created.UID == "" || created.ResourceVersion == "" || created.CreationTimestamp.IsZero() {
				t.Fatalf("created without identity: %+v", created.ObjectMeta)
			}
			got := must(maps.Get(ctx, "a", metav1.GetOptions{}))(t)
			if got.ResourceVersion != created.ResourceVersion || got.Data["k"] != "1" || got.UID != created.UID {
				t.Fatalf("got %+v", got)
			}
			got.Data["k"] = "2"
			updated := must(maps.Update(ctx, got, metav1.UpdateOptions{}))(t)
			if updated.ResourceVersion == got.ResourceVersion || updated.Data["k"] != "2" {
				t.Fatalf("updated %+v", updated)
			}
			again := must(maps.Update(ctx, updated, metav1.UpdateOptions{}))(t)
			if again.ResourceVersion != updated.ResourceVersion {
				t.Error("a write that changes nothing was written")
			}
			_, err := maps.Update(ctx, got, metav1.UpdateOptions{})
			want := `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`
			if !apierrors.IsConflict(err) || err.Error() != want {
				t.Errorf("got %v", err)
			}
			for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
				p := must(maps.Patch(ctx, "a", kind, []byte(`{"data":{"`+strings.Split(string(kind), "/")[1][:5]+`":"x"}}`), metav1.PatchOptions{}))(t)
				if len(p.Data) < 2 {
					t.Errorf("%s: %v", kind, p.Data)
				}
			}
			p := must(maps.Patch(ctx, "a", types.JSONPatchType, []byte(`[{"op":"replace","path":"/data/k","value":"3"}]`), metav1.PatchOptions{}))(t)
			if p.Data["k"] != "3" {
				t.Errorf("json patch: %v", p.Data)
			}
			if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			_, err = maps.Get(ctx, "a", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) || err.Error() != `configmaps "a" not found` {
				t.Errorf("got %v", err)
			}
		})
	}
}

// late lets the cache learn of a write some time after it was answered.
type late struct{}

func (late) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	time.Sleep(10 * time.Millisecond)
	return data, false, nil
}

func (late) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) { return data, nil }

func TestWhatUndoesTheWriteBeforeIsNotTakenForNoChange(t *testing.T) {
	f := newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: []*api.Resource{core.ConfigMaps}, Security: admin(), Transformer: func(schema.GroupResource) store.Transformer { return late{} }})
	maps := f.clients(t, runtime.ContentTypeJSON).CoreV1().ConfigMaps("default")
	must(maps.Create(t.Context(), cm("a", map[string]string{"k": "0"}), metav1.CreateOptions{}))(t)
	for i := range 4 {
		for _, k := range []string{"1", "0"} {
			patched := must(maps.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"k":"`+k+`"}}`), metav1.PatchOptions{}))(t)
			if patched.Data["k"] != k {
				t.Fatalf("round %d: the answer tells %q, want %q", i, patched.Data["k"], k)
			}
		}
		if got := must(maps.Get(t.Context(), "a", metav1.GetOptions{}))(t); got.Data["k"] != "0" {
			t.Fatalf("round %d: %q is stored, want the last that was asked for", i, got.Data["k"])
		}
	}
}

func TestRefusalsAreUpstreams(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	maps := f.clients(t, "").CoreV1().ConfigMaps("default")
	must(maps.Create(ctx, cm("taken", nil), metav1.CreateOptions{}))(t)
	raw := f.clients(t, "").CoreV1().RESTClient()
	post := func(path, body string, params ...string) error {
		r := raw.Post().AbsPath(path).Body([]byte(body)).SetHeader("Content-Type", "application/json")
		for i := 0; i+1 < len(params); i += 2 {
			r = r.Param(params[i], params[i+1])
		}
		return r.Do(ctx).Error()
	}
	const path = "/api/v1/namespaces/default/configmaps"
	for name, test := range map[string]struct {
		err  func() error
		want string
	}{
		"a name that is taken": {
			func() error { _, err := maps.Create(ctx, cm("taken", nil), metav1.CreateOptions{}); return err },
			`configmaps "taken" already exists`,
		},
		"a bad name": {
			func() error { _, err := maps.Create(ctx, cm("Bad_Name", nil), metav1.CreateOptions{}); return err },
			`ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
		},
		"another namespace": {
			func() error {
				return post(path, `{"metadata":{"name":"x","namespace":"other"}}`)
			},
			"the namespace of the provided object does not match the namespace sent on the request",
		},
		"another kind": {
			func() error { return post(path, `{"kind":"ConfigMapList","apiVersion":"v1"}`) },
			`ConfigMapList in version "v1" cannot be handled as a ConfigMap: converting (v1.ConfigMapList) to (core.ConfigMap): unknown conversion`,
		},
		"an unknown field": {
			func() error { return post(path, `{"metadata":{"name":"x"},"foo":1}`, "fieldValidation", "Strict") },
			`ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo"`,
		},
		"a resourceVersion": {
			func() error { return post(path, `{"metadata":{"name":"x","resourceVersion":"5"}}`) },
			"resourceVersion should not be set on objects to be created",
		},
		"broken JSON": {
			func() error { return post(path, `{"metadata":`) },
			`the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"metadata":)`,
		},
		"an unserved resource": {
			func() error { return raw.Get().AbsPath("/api/v1/nothings").Do(ctx).Error() },
			"the server could not find the requested resource",
		},
		"a method that is not served": {
			func() error { return raw.Post().AbsPath(path + "/taken").Do(ctx).Error() },
			"the server does not allow this method on the requested resource",
		},
		"a field label": {
			func() error {
				_, err := maps.List(ctx, metav1.ListOptions{FieldSelector: "data.x=1"})
				return err
			},
			`"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"`,
		},
		"a user without rights": {
			func() error { return raw.Get().AbsPath(path).SetHeader("X-Test-User", "bob").Do(ctx).Error() },
			`configmaps is forbidden: User "bob" cannot list resource "configmaps" in API group "" in the namespace "default"`,
		},
		"a delete of another object": {
			func() error {
				uid := types.UID("other")
				return maps.Delete(ctx, "taken", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
			},
			`Operation cannot be fulfilled on ConfigMap "taken": the UID in the precondition (other) does not match the UID in record (`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.err()
			if err == nil || (err.Error() != test.want && !(strings.HasSuffix(test.want, "(") && strings.HasPrefix(err.Error(), test.want))) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestListsComeInPages(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx := context.Background()
			maps := newFixture(t).clients(t, contentType).CoreV1().ConfigMaps("default")
			const total = 25
			for i := range total {
				o := cm(nameOf(i), nil)
				o.Labels = map[string]string{"odd": map[bool]string{true: "yes", false: "no"}[i%2 == 1]}
				must(maps.Create(ctx, o, metav1.CreateOptions{}))(t)
			}
			var names []string
			opts := metav1.ListOptions{Limit: 10}
			for page := 0; ; page++ {
				list := must(maps.List(ctx, opts))(t)
				for _, o := range list.Items {
					names = append(names, o.Name)
				}
				if list.Continue == "" {
					break
				}
				if list.RemainingItemCount == nil || *list.RemainingItemCount != int64(total-len(names)) {
					t.Errorf("page %d: remaining %v", page, list.RemainingItemCount)
				}
				// What comes after the first page does not show in the others.
				must(maps.Create(ctx, cm("zz-"+nameOf(page), nil), metav1.CreateOptions{}))(t)
				opts.Continue = list.Continue
			}
			if len(names) != total || names[0] != nameOf(0) || names[total-1] != nameOf(total-1) {
				t.Errorf("got %v", names)
			}
			odd := must(maps.List(ctx, metav1.ListOptions{LabelSelector: "odd=yes"}))(t)
			if len(odd.Items) != total/2 {
				t.Errorf("by label: %d", len(odd.Items))
			}
			one := must(maps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + nameOf(3)}))(t)
			if len(one.Items) != 1 || one.Items[0].Name != nameOf(3) {
				t.Errorf("by name: %v", one.Items)
			}
			if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd"}); err != nil {
				t.Fatal(err)
			}
			if rest := must(maps.List(ctx, metav1.ListOptions{}))(t); len(rest.Items) != 2 {
				t.Errorf("%d objects are left", len(rest.Items))
			}
		})
	}
}

func TestAWatchSeesEveryChange(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx := context.Background()
			maps := newFixture(t).clients(t, contentType).CoreV1().ConfigMaps("default")
			before := must(maps.Create(ctx, cm("before", nil), metav1.CreateOptions{}))(t)
			w := must(maps.Watch(ctx, metav1.ListOptions{ResourceVersion: before.ResourceVersion}))(t)
			defer w.Stop()
			a := must(maps.Create(ctx, cm("a", map[string]string{"n": "0"}), metav1.CreateOptions{}))(t)
			a.Data["n"] = "1"
			must(maps.Update(ctx, a, metav1.UpdateOptions{}))(t)
			if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
				e := <-w.ResultChan()
				o, ok := e.Object.(*corev1.ConfigMap)
				if e.Type != want || !ok || o.Name != "a" {
					t.Fatalf("got %s %v, want %s", e.Type, e.Object, want)
				}
			}
		})
	}
}

func TestAWatchListEndsItsInitialEventsWithABookmark(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	must(maps.Create(ctx, cm("a", nil), metav1.CreateOptions{}))(t)
	yes := true
	w := must(maps.Watch(ctx, metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	}))(t)
	defer w.Stop()
	if e := <-w.ResultChan(); e.Type != watch.Added {
		t.Fatalf("got %v", e)
	}
	e := <-w.ResultChan()
	if o, ok := e.Object.(*corev1.ConfigMap); !ok || e.Type != watch.Bookmark || o.Annotations[metav1.InitialEventsAnnotationKey] != "true" || o.ResourceVersion == "" {
		t.Fatalf("got %v", e)
	}
}

func TestFinalizersHoldADeletedObject(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	o := cm("held", nil)
	o.Finalizers = []string{"example.com/hold"}
	must(maps.Create(ctx, o, metav1.CreateOptions{}))(t)
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held := must(maps.Get(ctx, "held", metav1.GetOptions{}))(t)
	if held.DeletionTimestamp == nil || *held.DeletionGracePeriodSeconds != 0 {
		t.Fatalf("got %+v", held.ObjectMeta)
	}
	_, err := maps.Create(ctx, cm("held", nil), metav1.CreateOptions{})
	if err == nil || err.Error() != `object is being deleted: configmaps "held" already exists` {
		t.Errorf("got %v", err)
	}
	held.Finalizers = nil
	must(maps.Update(ctx, held, metav1.UpdateOptions{}))(t)
	if _, err := maps.Get(ctx, "held", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestForegroundDeletionWaitsForDependents(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	must(maps.Create(ctx, cm("owner", nil), metav1.CreateOptions{}))(t)
	policy := metav1.DeletePropagationForeground
	if err := maps.Delete(ctx, "owner", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	got := must(maps.Get(ctx, "owner", metav1.GetOptions{}))(t)
	if len(got.Finalizers) != 1 || got.Finalizers[0] != metav1.FinalizerDeleteDependents {
		t.Errorf("got %v", got.Finalizers)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	all := []string{metav1.DryRunAll}
	o := must(maps.Create(ctx, cm("ghost", nil), metav1.CreateOptions{DryRun: all}))(t)
	if o.UID == "" || o.ResourceVersion != "" {
		t.Errorf("got %+v", o.ObjectMeta)
	}
	if _, err := maps.Get(ctx, "ghost", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	real := must(maps.Create(ctx, cm("real", nil), metav1.CreateOptions{}))(t)
	if err := maps.Delete(ctx, "real", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Fatal(err)
	}
	if got := must(maps.Get(ctx, "real", metav1.GetOptions{}))(t); got.ResourceVersion != real.ResourceVersion {
		t.Error("a dry run wrote")
	}
}

func TestGeneratedNamesAreDistinct(t *testing.T) {
	ctx := context.Background()
	maps := newFixture(t).clients(t, "").CoreV1().ConfigMaps("default")
	seen := map[string]bool{}
	for range 5 {
		o := cm("", nil)
		o.GenerateName = "gen-"
		created := must(maps.Create(ctx, o, metav1.CreateOptions{}))(t)
		if !strings.HasPrefix(created.Name, "gen-") || len(created.Name) != len("gen-")+5 || seen[created.Name] {
			t.Errorf("got %q", created.Name)
		}
		seen[created.Name] = true
	}
}

func TestTablesArePrintedByTheServer(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	c := f.clients(t, "").CoreV1()
	must(c.ConfigMaps("default").Create(ctx, cm("a", map[string]string{"x": "1", "y": "2"}), metav1.CreateOptions{}))(t)
	body := must(c.RESTClient().Get().AbsPath("/api/v1/namespaces/default/configmaps").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").DoRaw(ctx))(t)
	var table metav1.Table
	if err := json.Unmarshal(body, &table); err != nil {
		t.Fatal(err)
	}
	if table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" || len(table.ColumnDefinitions) != 3 || len(table.Rows) != 1 || table.Rows[0].Cells[1] != float64(2) {
		t.Errorf("got %s", body)
	}
}

func TestBigListsAreCompressed(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx := context.Background()
			maps := newFixture(t).clients(t, contentType).CoreV1().ConfigMaps("default")
			const total = 300
			for i := range total {
				must(maps.Create(ctx, cm(nameOf(i), map[string]string{"d": strings.Repeat("abc", 400)}), metav1.CreateOptions{}))(t)
			}
			for range 2 {
				list := must(maps.List(ctx, metav1.ListOptions{}))(t)
				for i, o := range list.Items {
					if o.Name != nameOf(i) || len(o.Data["d"]) != 1200 || o.ResourceVersion == "" {
						t.Fatalf("item %d: %+v", i, o.ObjectMeta)
					}
				}
				if len(list.Items) != total {
					t.Fatalf("%d items", len(list.Items))
				}
			}
		})
	}
}
