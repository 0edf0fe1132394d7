package all_test

import (
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/randfill"

	"clipper.dev/clipper/internal/api"
)

const rounds = 60

// The warnings of addresses complain in the log about those that validation would have refused.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// filler fills objects at random, with values that come through a codec unharmed.
func filler(seed int64) *randfill.Filler {
	return randfill.New().RandSource(rand.NewSource(seed)).NilChance(0.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1<<40)-1000, resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.NewTime(time.Unix(c.Int63n(1<<31), 0).UTC()) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(time.Unix(c.Int63n(1<<31), 0).UTC())
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = []byte(`{}`) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			m.Name, m.Namespace = c.String(8), c.String(8)
			c.Fill(&m.Labels)
			c.Fill(&m.Annotations)
		},
		func(i *intstr.IntOrString, c randfill.Continue) {
			if *i = intstr.FromInt32(c.Int31()); c.Bool() {
				*i = intstr.FromString(c.String(6))
			}
		},
	)
}

// hubOf makes a random object of the type that a row's functions work on.
func hubOf(t *testing.T, r *api.Resource, f *randfill.Filler) api.Object {
	t.Helper()
	v := r.Versions[0]
	obj := v.New()
	f.Fill(obj)
	if v.ToHub == nil {
		return obj
	}
	hub, err := v.ToHub(obj)
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

func seedOf(r *api.Resource) int64 {
	h := fnv.New64a()
	fmt.Fprint(h, r.Group, "/", r.Name)
	return int64(h.Sum64() >> 1)
}

// TestRowsTakeAnything calls every row's functions with random objects: defaulting twice is defaulting once, and nothing panics.
func TestRowsTakeAnything(t *testing.T) {
	for _, r := range api.Registered() {
		t.Run(r.Group+"/"+r.Name, func(t *testing.T) {
			for i := range int64(rounds) {
				f := filler(seedOf(r) + i)
				obj, old := hubOf(t, r, f), hubOf(t, r, f)
				defaultTwice(t, r, obj)
				defaultTwice(t, r, old)
				exercise(r, obj, old)
			}
		})
	}
}

func defaultTwice(t *testing.T, r *api.Resource, obj api.Object) {
	t.Helper()
	if r.Default == nil {
		return
	}
	r.Default(obj)
	once := obj.DeepCopyObject()
	r.Default(obj)
	if !equality.Semantic.DeepEqual(once, obj) {
		t.Fatalf("defaulting again changes\n%#v\ninto\n%#v", once, obj)
	}
}

func exercise(r *api.Resource, obj, old api.Object) {
	fresh := func() api.Object { return obj.DeepCopyObject().(api.Object) }
	created := fresh()
	if r.PrepareCreate != nil {
		r.PrepareCreate(created)
	}
	if r.Validate != nil {
		r.Validate(created)
	}
	if r.Warnings != nil {
		r.Warnings(created, nil)
		r.Warnings(created, old)
	}
	if r.Cells != nil {
		if cells := r.Cells(created, api.PrintOptions{Now: time.Now()}); len(cells) != len(r.Columns) {
			panic(fmt.Sprintf("%d cells for %d columns", len(cells), len(r.Columns)))
		}
	}
	for _, f := range r.Fields {
		f(created)
	}
	update := func(prepare func(new, old api.Object), validate func(new, old api.Object)) {
		changed := fresh()
		if prepare != nil {
			prepare(changed, old)
		}
		validate(changed, old)
	}
	if r.ValidateUpdate != nil {
		update(r.PrepareUpdate, func(n, o api.Object) { r.ValidateUpdate(n, o) })
	}
	if r.SpecChanged != nil {
		r.SpecChanged(obj, old)
	}
	if s := r.Status; s != nil && s.ValidateUpdate != nil {
		update(s.PrepareUpdate, func(n, o api.Object) { s.ValidateUpdate(n, o) })
	}
	for _, s := range r.Subresources {
		if s.ValidateUpdate != nil {
			update(s.PrepareUpdate, func(n, o api.Object) { s.ValidateUpdate(n, o) })
		}
	}
	if r.Scale != nil {
		scaled := fresh()
		_, _, _, _ = r.Scale.Get(scaled)
		r.Scale.Set(scaled, 3)
	}
}
