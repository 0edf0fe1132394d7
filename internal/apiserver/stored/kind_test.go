package stored

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/wire"
)

func newKind() *Kind {
	gvk := corev1.SchemeGroupVersion.WithKind("ConfigMap")
	return &Kind{
		GVK: gvk, New: func() api.Object { return &corev1.ConfigMap{} },
		Default: func(o api.Object) {
			if cm := o.(*corev1.ConfigMap); cm.Data == nil {
				cm.Data = map[string]string{"default": "yes"}
			}
		},
		Fields:   map[string]func(api.Object) string{"data.f": func(o api.Object) string { return o.(*corev1.ConfigMap).Data["f"] }},
		Versions: map[schema.GroupVersionKind]Version{gvk: {New: func() api.Object { return &corev1.ConfigMap{} }}},
	}
}

func object() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n", UID: "u", Labels: map[string]string{"l": "v"}, ResourceVersion: "3"},
		Data:       map[string]string{"f": "x"},
	}
}

func TestWhatWasWrittenIsNotDecodedAgain(t *testing.T) {
	k := newKind()
	d, err := k.Encode(object())
	if err != nil {
		t.Fatal(err)
	}
	k.Remember(d)
	for round, decoded := range []int64{0, 1} {
		raw, rec, err := k.Open(bytes.Clone(d.Value), 7)
		if err != nil {
			t.Fatal(err)
		}
		want := object()
		want.ResourceVersion = "7"
		if canonical, _ := want.Marshal(); !bytes.Equal(raw, canonical) {
			t.Errorf("round %d: got %x", round, raw)
		}
		if rec.Name != "a" || rec.Namespace != "n" || rec.UID != "u" || rec.Labels["l"] != "v" || rec.Fields["data.f"] != "x" {
			t.Errorf("round %d: got %+v", round, rec)
		}
		if k.decoded.Load() != decoded {
			t.Errorf("round %d decoded %d values", round, k.decoded.Load())
		}
	}
}

func TestForeignValuesAreReadAndDefaulted(t *testing.T) {
	k := newKind()
	old := object()
	old.Data, old.ResourceVersion = nil, ""
	old.APIVersion, old.Kind = "v1", "ConfigMap"
	msg, _ := old.Marshal()
	text, _ := json.Marshal(old)
	for name, value := range map[string][]byte{"protobuf": wire.AppendEnvelope(nil, "v1", "ConfigMap", msg), "json": text} {
		raw, _, err := k.Open(value, 9)
		if err != nil {
			t.Fatal(err)
		}
		o, err := k.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if cm := o.(*corev1.ConfigMap); cm.Data["default"] != "yes" || cm.ResourceVersion != "9" || cm.Kind != "" {
			t.Errorf("%s: got %+v", name, cm)
		}
	}
	if _, _, err := k.Open(wire.AppendEnvelope(nil, "v2", "ConfigMap", msg), 1); err == nil {
		t.Error("a value of an unknown version was read")
	}
}

func TestADraftKnowsWhetherItChangesAnything(t *testing.T) {
	k := newKind()
	first, _ := k.Encode(object())
	raw, err := first.Message(12)
	if err != nil {
		t.Fatal(err)
	}
	same, _ := k.Encode(object())
	if !same.Same(raw, 12) {
		t.Error("the same object seems different")
	}
	if same.Same(raw, 13) {
		t.Error("the object seems the same at another revision")
	}
	for _, change := range []func(*corev1.ConfigMap){
		func(o *corev1.ConfigMap) { o.Data["f"] = "y" },
		func(o *corev1.ConfigMap) { o.Data["g"] = "" },
		func(o *corev1.ConfigMap) { o.Name += "x" },
		func(o *corev1.ConfigMap) { o.Labels = map[string]string{"a": "b"} },
		func(o *corev1.ConfigMap) { o.Finalizers = []string{"a/b"} },
	} {
		other := object()
		change(other)
		if d, _ := k.Encode(other); d.Same(raw, 12) {
			t.Errorf("%v seems the same", other)
		}
	}
}

func TestDraftsThatNeverComeBackArePushedOut(t *testing.T) {
	k := newKind()
	for i := range 3 * recentLimit {
		o := object()
		o.Name = strconv.Itoa(i)
		d, err := k.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		k.Remember(d)
	}
	if n := len(k.written.drafts); n != recentLimit {
		t.Errorf("%d drafts are kept", n)
	}
}

func FuzzOpen(f *testing.F) {
	d, _ := newKind().Encode(object())
	f.Add(d.Value)
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap"}`))
	f.Fuzz(func(_ *testing.T, value []byte) { _, _, _ = newKind().Open(value, 5) })
}
