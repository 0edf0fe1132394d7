package managed

import (
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

func TestWhatIsOwnedAsAWholeDiffersAsTheLibrarySays(t *testing.T) {
	types, err := newTypes()
	if err != nil {
		t.Fatal(err)
	}
	with := func(mounts []corev1.VolumeMountStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "a", VolumeMounts: mounts}}}}
	}
	for name, test := range map[string]struct{ before, after *corev1.Pod }{
		"an empty list that was none": {with(nil), with([]corev1.VolumeMountStatus{})},
		"the same":                    {with([]corev1.VolumeMountStatus{}), with([]corev1.VolumeMountStatus{})},
		"an item more":                {with(nil), with([]corev1.VolumeMountStatus{{Name: "v"}})},
	} {
		t.Run(name, func(t *testing.T) {
			gvk := corev1.SchemeGroupVersion.WithKind("Pod")
			before, err := types.of(gvk).FromStructured(test.before, typed.AllowDuplicates)
			if err != nil {
				t.Fatal(err)
			}
			after, err := types.of(gvk).FromStructured(test.after, typed.AllowDuplicates)
			if err != nil {
				t.Fatal(err)
			}
			want, err := before.Compare(after)
			if err != nil {
				t.Fatal(err)
			}
			got := compareObjects(types.shapeOf(gvk, reflect.TypeFor[*corev1.Pod]()), test.before, test.after)
			if !got.ok || !got.modified.Equals(want.Modified) || !got.added.Equals(want.Added) || !got.removed.Equals(want.Removed) {
				t.Errorf("modified %v, added %v, removed %v; the library: %v", got.modified, got.added, got.removed, want)
			}
		})
	}
}

func TestOwnersInATemplateAreLeftToTheLibrary(t *testing.T) {
	types, err := newTypes()
	if err != nil {
		t.Fatal(err)
	}
	shape := types.shapeOf(corev1.SchemeGroupVersion.WithKind("ReplicationController"), reflect.TypeFor[*corev1.ReplicationController]())
	owners := []metav1.ManagedFieldsEntry{{Manager: "m"}}
	nested := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{ManagedFields: owners}}}}
	if compareObjects(shape, &corev1.ReplicationController{}, nested).ok {
		t.Error("a template's are fields, which were overlooked")
	}
	claims := func(owners []metav1.ManagedFieldsEntry) *appsv1.StatefulSet {
		claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", ManagedFields: owners}}
		return &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim}}}
	}
	sets := types.shapeOf(appsv1.SchemeGroupVersion.WithKind("StatefulSet"), reflect.TypeFor[*appsv1.StatefulSet]())
	if compareObjects(sets, claims(nil), claims(owners)).ok || compareObjects(sets, claims(owners), claims(nil)).ok {
		t.Error("those of templates in a list that is owned as a whole were overlooked")
	}
	if c := compareObjects(sets, claims(nil), claims(nil)); !c.ok {
		t.Error("templates that nobody owns need no library")
	}
	own := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{ManagedFields: owners}}
	if c := compareObjects(shape, &corev1.ReplicationController{}, own); !c.ok || !c.added.Empty() || !c.modified.Empty() {
		t.Errorf("an object's own are no field: added %v, modified %v", c.added, c.modified)
	}
}
