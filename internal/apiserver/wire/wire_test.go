package wire

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

func configMap(version string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b", ResourceVersion: version, UID: "u", Labels: map[string]string{"x": "y"}},
		Data:       map[string]string{"k": "v"},
	}
}

func marshal(t *testing.T, o *corev1.ConfigMap) []byte {
	t.Helper()
	raw, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSetResourceVersionGivesTheBytesOfAFreshEncoding(t *testing.T) {
	for _, from := range []string{"", "7", "123456789"} {
		for _, to := range []string{"", "9", "1234567890123456"} {
			got, err := SetResourceVersion(marshal(t, configMap(from)), to)
			if err != nil {
				t.Fatal(err)
			}
			if want := marshal(t, configMap(to)); !bytes.Equal(got, want) {
				t.Errorf("%q to %q: got %x, want %x", from, to, got, want)
			}
		}
	}
}

func TestSetResourceVersionInAnObjectThatLacksTheField(t *testing.T) {
	msg := []byte{1<<3 | 2, 3, 1<<3 | 2, 1, 'a'} // only metadata.name
	got, err := SetResourceVersion(msg, "5")
	if err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if err := cm.Unmarshal(got); err != nil || cm.Name != "a" || cm.ResourceVersion != "5" {
		t.Fatalf("got %+v, %v", cm.ObjectMeta, err)
	}
}

func TestAnEnvelopeIsWhatApimachineryWrites(t *testing.T) {
	cm := configMap("3")
	cm.APIVersion, cm.Kind = "v1", "ConfigMap"
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := protobuf.NewSerializer(scheme, scheme).Encode(cm, &want); err != nil {
		t.Fatal(err)
	}
	msg := marshal(t, cm)
	got := AppendEnvelope(nil, "v1", "ConfigMap", msg)
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("got  %x\nwant %x", got, want.Bytes())
	}
	if len(got) != EnvelopeSize("v1", "ConfigMap", len(msg)) {
		t.Errorf("the size is %d, announced %d", len(got), EnvelopeSize("v1", "ConfigMap", len(msg)))
	}
	apiVersion, kind, opened, err := OpenEnvelope(got)
	if err != nil || apiVersion != "v1" || kind != "ConfigMap" || !bytes.Equal(opened, msg) {
		t.Errorf("opened %q %q %x, %v", apiVersion, kind, opened, err)
	}
}

func TestAListIsWhatTheGeneratedCodeReads(t *testing.T) {
	meta := &metav1.ListMeta{ResourceVersion: "12", Continue: "c"}
	out := AppendListMeta(nil, meta)
	out = AppendListItem(out, marshal(t, configMap("1")))
	out = AppendListItem(out, marshal(t, configMap("2")))
	var list corev1.ConfigMapList
	if err := list.Unmarshal(out); err != nil {
		t.Fatal(err)
	}
	if list.ResourceVersion != "12" || list.Continue != "c" || len(list.Items) != 2 || list.Items[1].ResourceVersion != "2" {
		t.Fatalf("got %+v", list)
	}
}

func TestAWatchFrameHoldsAnEnvelopedObject(t *testing.T) {
	msg := marshal(t, configMap("1"))
	frame := WatchFrame("ADDED", "v1", "ConfigMap", msg)
	var event metav1.WatchEvent
	if err := event.Unmarshal(frame[4:]); err != nil {
		t.Fatal(err)
	}
	if event.Type != "ADDED" || !bytes.Equal(event.Object.Raw, AppendEnvelope(nil, "v1", "ConfigMap", msg)) {
		t.Fatalf("got %+v", event)
	}
}

func FuzzSetResourceVersion(f *testing.F) {
	raw, _ := configMap("7").Marshal()
	f.Add(raw, "12")
	f.Fuzz(func(t *testing.T, msg []byte, version string) {
		if out, err := SetResourceVersion(msg, version); err == nil {
			if _, err := SetResourceVersion(out, version); err != nil {
				t.Fatalf("the result cannot be read again: %v", err)
			}
		}
		_, _, _, _ = OpenEnvelope(msg)
	})
}
