package history

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

func template(image string) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
}

func newOwner(t *testing.T, objects ...client.Object) *Owner {
	t.Helper()
	c := clienttest.New(objects...)
	view, err := client.ControllerRevisions.View(t.Context(), c, client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	return &Owner{Client: c, Object: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "db"}}, Kind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Resource: client.StatefulSets.GVR, Selector: labels.SelectorFromSet(labels.Set{"app": "db"}), View: view,
		Name: func(data []byte, collisions *int32) (string, string, string) {
			n := int32(0)
			if collisions != nil {
				n = *collisions
			}
			hash := fmt.Sprintf("%d-%d", len(data), n)
			return Name("db", hash), "hash", hash
		}}
}

func ensure(t *testing.T, o *Owner, image string) *appsv1.ControllerRevision {
	t.Helper()
	list, err := o.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := o.Ensure(t.Context(), list, template(image), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEachTemplateHasOneRevisionAndTheCurrentIsTheNewest(t *testing.T) {
	o := newOwner(t)
	first := ensure(t, o, "a")
	if again := ensure(t, o, "a"); again.Name != first.Name || again.Revision != 1 {
		t.Errorf("the same template again: %s, %d", again.Name, again.Revision)
	}
	if second := ensure(t, o, "bb"); second.Revision != 2 {
		t.Errorf("another template: %d", second.Revision)
	}
	if back := ensure(t, o, "a"); back.Name != first.Name || back.Revision != 3 {
		t.Errorf("back to the first: %s, %d", back.Name, back.Revision)
	}
	got, err := Template(first)
	if err != nil || got.Spec.Containers[0].Image != "a" || got.Labels["app"] != "db" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestATakenNameIsACollision(t *testing.T) {
	data, _ := Data(template("a"))
	o := newOwner(t, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("db-%d-0", len(data))}})
	r, collisions, err := o.Ensure(t.Context(), nil, template("a"), nil)
	if err != nil || *collisions != 1 || r.Name != fmt.Sprintf("db-%d-1", len(data)) {
		t.Errorf("got %v, %v, %v", r, collisions, err)
	}
}

func TestTrimKeepsWhatIsInUseAndTheNewest(t *testing.T) {
	o := newOwner(t)
	for _, image := range []string{"a", "bb", "ccc", "dddd"} {
		ensure(t, o, image)
	}
	list, _ := o.List(t.Context())
	if err := o.Trim(t.Context(), list, 1, func(r *appsv1.ControllerRevision) bool { return r.Revision == 1 || r.Revision == 4 }); err != nil {
		t.Fatal(err)
	}
	left, _ := o.List(t.Context())
	got := ""
	for _, r := range left {
		got += fmt.Sprint(r.Revision)
	}
	if got != "134" {
		t.Errorf("left are %s", got)
	}
}
