package clienttest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func TestViewTellsEveryChangeAsItsSelectionSeesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := New(pod("a"))
		v, _ := client.Pods.View(ctx, c, client.Selection{Field: "spec.nodeName", Value: "n1"})
		var seen []string
		go func() {
			_ = v.Subscribe(ctx, func(old, next *corev1.Pod) {
				switch {
				case old == nil:
					seen = append(seen, "added "+next.Name)
				case next == nil:
					seen = append(seen, "gone "+old.Name)
				default:
					seen = append(seen, "changed "+next.Name)
				}
			})
		}()
		synctest.Wait()
		_, err := client.Pods.CreateSub(ctx, c, "default", "a", "binding", &corev1.Binding{Target: corev1.ObjectReference{Name: "n1"}})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := client.Pods.Get(ctx, c, "default", "a")
		next := got.DeepCopy()
		next.Status.Phase = corev1.PodRunning
		if _, err := client.Pods.UpdateStatus(ctx, c, next); err != nil {
			t.Fatal(err)
		}
		zero := int64(0)
		if err := client.Pods.Delete(ctx, c, "default", "a", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if want := []string{"added a", "changed a", "gone a"}; !slices.Equal(seen, want) {
			t.Errorf("seen %v, want %v", seen, want)
		}
	})
}

func TestUpdateRefusesAStaleRevisionAndKeepsStatus(t *testing.T) {
	ctx, c := t.Context(), New(pod("a"))
	first, _ := client.Pods.Get(ctx, c, "default", "a")
	next := first.DeepCopy()
	next.Labels, next.Status.Phase = map[string]string{"x": "y"}, corev1.PodFailed
	second, err := client.Pods.Update(ctx, c, next)
	if err != nil || second.Status.Phase != "" {
		t.Fatalf("got phase %q, %v", second.Status.Phase, err)
	}
	if _, err := client.Pods.Update(ctx, c, next); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
}

func TestFinalizersHoldADeletedObject(t *testing.T) {
	ctx := t.Context()
	p := pod("a")
	p.Finalizers = []string{"x/y"}
	c := New(p)
	if err := client.Pods.Delete(ctx, c, "default", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := client.Pods.Get(ctx, c, "default", "a")
	if err != nil || got.DeletionTimestamp == nil {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestPatchTypes(t *testing.T) {
	for pt, data := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/labels","value":{"k":"v"}}]`,
		types.MergePatchType:          `{"metadata":{"labels":{"k":"v"}}}`,
		types.StrategicMergePatchType: `{"metadata":{"labels":{"k":"v"}}}`,
	} {
		t.Run(string(pt), func(t *testing.T) {
			c := New(pod("a"))
			got, err := client.Pods.Patch(t.Context(), c, "default", "a", "", pt, []byte(data), metav1.PatchOptions{})
			if err != nil || got.Labels["k"] != "v" {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestInterceptMakesACallFail(t *testing.T) {
	c := New()
	c.Intercept(func(w Write) error { return fmt.Errorf("%s refused", w.Verb) })
	if _, err := client.Pods.Create(t.Context(), c, pod("a")); err == nil || err.Error() != "create refused" {
		t.Errorf("got %v", err)
	}
}
