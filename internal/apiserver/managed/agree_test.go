package managed

import (
	"encoding/json"
	"hash/fnv"
	"log/slog"
	"math/rand"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/apiserver"
)

// words are few, so that items of lists are often alike.
var words = []string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}

func filler(seed int64) *randfill.Filler {
	return randfill.New().RandSource(rand.NewSource(seed)).NilChance(0.4).NumElements(0, 3).MaxDepth(9).Funcs(
		func(s *string, c randfill.Continue) { *s = words[c.Intn(len(words))] },
		func(n *int32, c randfill.Continue) { *n = c.Int31n(6) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(3000), resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) {
			*t = metav1.NewTime(time.Unix(c.Int63n(4), c.Int63n(1000)).UTC())
		},
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(time.Unix(c.Int63n(4), 0).UTC())
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = []byte(`{}`) },
		func(m *[]metav1.ManagedFieldsEntry, c randfill.Continue) { *m = nil },
		func(i *intstr.IntOrString, c randfill.Continue) {
			if *i = intstr.FromInt32(c.Int31n(3)); c.Bool() {
				*i = intstr.FromString(words[c.Intn(4)])
			}
		},
	)
}

// graft replaces some parts of a value by those of another one.
func graft(r *rand.Rand, into, from reflect.Value, chance float64) {
	if r.Float64() < chance && into.CanSet() {
		into.Set(from)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		if !into.IsNil() && !from.IsNil() {
			graft(r, into.Elem(), from.Elem(), chance)
		}
	case reflect.Struct:
		for i := range into.NumField() {
			if into.Type().Field(i).IsExported() && into.Type().Field(i).Name != "ManagedFields" {
				graft(r, into.Field(i), from.Field(i), chance)
			}
		}
	case reflect.Slice:
		for i := range min(into.Len(), from.Len()) {
			graft(r, into.Index(i), from.Index(i), chance)
		}
	}
}

// plainEntries are entries without times.
func plainEntries(o api.Object) []metav1.ManagedFieldsEntry {
	var out []metav1.ManagedFieldsEntry
	for _, e := range o.GetManagedFields() {
		e.Time = nil
		out = append(out, e)
	}
	return out
}

// TestTheQuickWayAgreesWithTheLibrary sends random objects of all kinds through sequences of writes by several managers,
// the quick way and the library's, and compares who owns what after each.
func TestTheQuickWayAgreesWithTheLibrary(t *testing.T) {
	tracker, err := New(api.Registered(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	quick, all := 0, 0
	for _, row := range api.Registered() {
		if row.Prefix == "" || row.Versions[0].FromHub != nil {
			continue
		}
		t.Run(row.Group+"/"+row.Name, func(t *testing.T) {
			h := fnv.New64a()
			h.Write([]byte(row.Group + "/" + row.Name))
			for i := range int64(10) {
				synctest.Test(t, func(t *testing.T) {
					q, a := agree(t, tracker, row, int64(h.Sum64()>>1)+i)
					quick, all = quick+q, all+a
				})
			}
		})
	}
	t.Logf("%d of %d writes went the quick way", quick, all)
	if quick*2 < all {
		t.Error("most writes should have gone the quick way")
	}
}

func agree(t *testing.T, tracker *Tracker, row *api.Resource, seed int64) (quick, all int) {
	t.Helper()
	f, r := filler(seed), rand.New(rand.NewSource(seed))
	v := &row.Versions[0]
	made := func() api.Object {
		o := v.New()
		f.Fill(o)
		o.SetManagedFields(nil)
		o.SetUID("1")
		return o
	}
	// As a client would send it: the library tells empty slices inside of lists from absent ones, though both are written alike.
	sent := func(o api.Object) api.Object {
		t.Helper()
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out := v.New()
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	var live api.Object
	next := sent(made())
	for step := range 6 {
		w := apiserver.Tracked{Resource: row, Version: v.Version}
		if row.Status != nil && step%2 == 1 {
			w.Subresource = "status"
		}
		manager := words[1+r.Intn(3)]
		slow, fast := next.DeepCopyObject().(api.Object), next.DeepCopyObject().(api.Object)
		err := tracker.update(w, live, slow, manager)
		ok := tracker.quick(w, live, fast, manager)
		all++
		if ok {
			quick++
			if err != nil {
				t.Fatalf("seed %d, step %d: the library refuses: %v", seed, step, err)
			}
			if got, want := plainEntries(fast), plainEntries(slow); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, step %d, %q by %s:\ngot  %s\nwant %s\nbefore %s", seed, step, w.Subresource, manager, describe(fast), describe(slow), describe(live))
			}
		}
		if err != nil {
			slow.SetManagedFields(nil)
		}
		live = sent(slow)
		time.Sleep(time.Duration(r.Intn(2)) * time.Second)
		next = live.DeepCopyObject().(api.Object)
		graft(r, reflect.ValueOf(next), reflect.ValueOf(made()), 0.05)
		next.SetManagedFields(live.GetManagedFields())
		next.SetUID("1")
		next = sent(next)
	}
	return quick, all
}

func describe(o api.Object) string {
	if o == nil {
		return "nothing"
	}
	out := ""
	for _, e := range o.GetManagedFields() {
		out += "\n  " + e.Manager + " " + string(e.Operation) + " " + e.Subresource + " " + string(e.FieldsV1.GetRawBytes())
	}
	return out
}
