package managed_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api/apps"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/managed"
)

var (
	configMaps  = apiserver.Tracked{Resource: core.ConfigMaps, Version: "v1"}
	deployments = apiserver.Tracked{Resource: apps.Deployments, Version: "v1"}
)

// owners shows who owns what, an entry a line.
func owners(o metav1.Object) string {
	var out []string
	for _, e := range o.GetManagedFields() {
		out = append(out, strings.TrimSpace(strings.Join([]string{e.Manager, string(e.Operation), e.Subresource}, " "))+" "+string(e.FieldsV1.GetRawBytes()))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func expect(t *testing.T, o metav1.Object, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := owners(o); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func patchOf(data string) []byte {
	return []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndata: {" + data + "}\n")
}

func apply(t *testing.T, tracker *managed.Tracker, live *corev1.ConfigMap, data, manager string, force bool) *corev1.ConfigMap {
	t.Helper()
	out, err := applied(tracker, live, data, manager, force)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func applied(tracker *managed.Tracker, live *corev1.ConfigMap, data, manager string, force bool) (*corev1.ConfigMap, error) {
	var out any
	var err error
	if live == nil {
		out, err = tracker.Apply(configMaps, nil, patchOf(data), manager, force)
	} else {
		out, err = tracker.Apply(configMaps, live, patchOf(data), manager, force)
	}
	if err != nil {
		return nil, err
	}
	cm := out.(*corev1.ConfigMap)
	cm.UID = "1"
	return cm, nil
}

func TestApplyingCreatesSharesAndTakesFields(t *testing.T) {
	tracker := newTracker(t)
	cm := apply(t, tracker, nil, `a: "1", b: "1"`, "one", false)
	expect(t, cm, `one Apply {"f:data":{"f:a":{},"f:b":{}}}`)
	cm = apply(t, tracker, cm, `a: "1", c: "2"`, "two", false)
	expect(t, cm, `one Apply {"f:data":{"f:a":{},"f:b":{}}}`, `two Apply {"f:data":{"f:a":{},"f:c":{}}}`)

	_, err := applied(tracker, cm, `a: "9", b: "9"`, "two", false)
	want := "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b"
	if !apierrors.IsConflict(err) || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	status := err.(apierrors.APIStatus).Status()
	if status.Code != 409 || len(status.Details.Causes) != 2 || status.Details.Causes[0] != (metav1.StatusCause{
		Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "one"`, Field: ".data.a",
	}) {
		t.Errorf("got %+v", status)
	}

	cm = apply(t, tracker, cm, `a: "9"`, "two", true)
	expect(t, cm, `one Apply {"f:data":{"f:b":{}}}`, `two Apply {"f:data":{"f:a":{}}}`)
	if cm.Data["a"] != "9" || cm.Data["b"] != "1" || len(cm.Data) != 2 {
		t.Errorf("got %v", cm.Data)
	}
	cm = apply(t, tracker, cm, ``, "one", false)
	if _, there := cm.Data["b"]; there {
		t.Errorf("what its only applier dropped is still there: %v", cm.Data)
	}
}

func TestApplyRefusesWhatIsNotInTheSchema(t *testing.T) {
	tracker := newTracker(t)
	for patch, want := range map[string]string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndat: {}":                      `failed to create typed patch object (default/c; /v1, Kind=ConfigMap): .dat: field not declared in schema`,
		"apiVersion: v2\nkind: ConfigMap\nmetadata: {name: c}":                                                   `invalid object type: /v2, Kind=ConfigMap`,
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, managedFields: [{manager: x, operation: Update}]}": `metadata.managedFields must be nil`,
		"{": "error decoding YAML: ",
	} {
		_, err := tracker.Apply(configMaps, nil, []byte(patch), "m", false)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", patch, err, want)
		}
	}
}

func TestClientSideApplyTurnsIntoServerSideApplyWithoutConflicts(t *testing.T) {
	tracker := newTracker(t)
	cm := kilobyte()
	cm.Data = map[string]string{"a": "1"}
	cm.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}`}
	tracker.Update(configMaps, nil, cm, "kubectl-client-side-apply")
	cm.UID = "1"
	cm = apply(t, tracker, cm, `a: "2"`, "kubectl", false)
	if cm.Data["a"] != "2" || !strings.Contains(cm.Annotations[corev1.LastAppliedConfigAnnotation], `"a":"2"`) {
		t.Errorf("got %v %v", cm.Data, cm.Annotations)
	}
	if _, err := applied(tracker, cm, `a: "3"`, "another", false); !apierrors.IsConflict(err) {
		t.Errorf("another manager: %v", err)
	}
}

func TestManagersTakeFieldsFromEachOther(t *testing.T) {
	tracker := newTracker(t)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", UID: "1"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(1)), Paused: true}}
	tracker.Update(deployments, nil, d, "creator")
	expect(t, d, `creator Update {"f:spec":{"f:paused":{},"f:replicas":{}}}`)

	scale := deployments
	scale.Subresource = "scale"
	next := d.DeepCopy()
	next.Spec.Replicas = new(int32(3))
	tracker.Update(scale, d, next, "scaler")
	expect(t, next, `creator Update {"f:spec":{"f:paused":{}}}`, `scaler Update scale {"f:spec":{"f:replicas":{}}}`)

	status := deployments
	status.Subresource = "status"
	d, next = next, next.DeepCopy()
	next.Status.Replicas, next.Spec.Paused = 3, false
	tracker.Update(status, d, next, "controller")
	expect(t, next, `controller Update status {"f:status":{"f:replicas":{}}}`, `creator Update {"f:spec":{"f:paused":{}}}`, `scaler Update scale {"f:spec":{"f:replicas":{}}}`)
}

func TestManagedFieldsCanBeResetAndAreNotLostByAccident(t *testing.T) {
	tracker := newTracker(t)
	live := kilobyte()
	tracker.Update(configMaps, nil, live, "creator")
	live.UID = "1"
	for name, test := range map[string]struct {
		sent []metav1.ManagedFieldsEntry
		keep bool
	}{
		"absent":                {nil, true},
		"an empty list":         {[]metav1.ManagedFieldsEntry{}, false},
		"one empty entry":       {[]metav1.ManagedFieldsEntry{{}}, false},
		"what can't be decoded": {[]metav1.ManagedFieldsEntry{{Manager: "x", Operation: "Dance"}}, true},
	} {
		next := live.DeepCopy()
		next.ManagedFields = test.sent
		tracker.Update(configMaps, live, next, "other")
		if kept := len(next.ManagedFields) > 0; kept != test.keep {
			t.Errorf("%s: got %s", name, owners(next))
		}
	}
	untracked := live.DeepCopy()
	untracked.ManagedFields = nil
	next := untracked.DeepCopy()
	next.Data["a"] = "2"
	tracker.Update(configMaps, untracked, next, "other")
	expect(t, next)
	next = apply(t, tracker, next, `z: "1"`, "applier", false)
	if !strings.Contains(owners(next), "before-first-apply Update") {
		t.Errorf("got %s", owners(next))
	}
}

func TestOldManagersAreMergedAboveTen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t)
		live := kilobyte()
		tracker.Update(configMaps, nil, live, "creator")
		live.UID = "1"
		for i := range 14 {
			time.Sleep(time.Second)
			next := live.DeepCopy()
			next.Data[fmt.Sprint("key", i)] = "1"
			tracker.Update(configMaps, live, next, fmt.Sprint("manager", i))
			live = next
		}
		if len(live.ManagedFields) != 10 || live.ManagedFields[0].Manager != "ancient-changes" {
			t.Errorf("got %s", owners(live))
		}
	})
}

func TestAnUpdateThatChangesNothingKeepsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t)
		live := kilobyte()
		tracker.Update(configMaps, nil, live, "m")
		live.UID = "1"
		time.Sleep(time.Minute)
		next := live.DeepCopy()
		tracker.Update(configMaps, live, next, "m")
		if !next.ManagedFields[0].Time.Equal(live.ManagedFields[0].Time) {
			t.Errorf("got %v, want %v", next.ManagedFields[0].Time, live.ManagedFields[0].Time)
		}
		next.Data["a"] = "2"
		tracker.Update(configMaps, live, next, "m")
		if next.ManagedFields[0].Time.Equal(live.ManagedFields[0].Time) {
			t.Error("the time of a change is the former one's")
		}
	})
}
