package legacytokentracking

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

var key = controller.Key{Namespace: metav1.NamespaceSystem, Name: ConfigMapName}

func TestTheDayIsNotedOnceAndMendedIfItIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New()
		k, err := New(t.Context(), controller.Env{Client: c})
		if err != nil {
			t.Fatal(err)
		}
		since := func() string {
			t.Helper()
			if _, err := k.Reconcile(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			m, err := client.ConfigMaps.Get(t.Context(), c, key.Namespace, key.Name)
			if err != nil {
				t.Fatal(err)
			}
			return m.Data[SinceKey]
		}
		first := time.Now().UTC().Format(DateForm)
		if got := since(); got != first {
			t.Errorf("since %q", got)
		}
		time.Sleep(48 * time.Hour)
		if got := since(); got != first {
			t.Errorf("the day moved to %q", got)
		}
		broken := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string]string{SinceKey: "yesterday"}}
		if _, err := client.ConfigMaps.Update(t.Context(), c, broken); err != nil {
			t.Fatal(err)
		}
		if got := since(); got != time.Now().UTC().Format(DateForm) {
			t.Errorf("since %q", got)
		}
	})
}

func TestADeletedConfigMapComesBackAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New()
		k, err := New(t.Context(), controller.Env{Client: c})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Reconcile(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := client.ConfigMaps.Delete(t.Context(), c, key.Namespace, key.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		again, err := k.Reconcile(t.Context(), key)
		if err != nil || again.After != pause {
			t.Fatalf("again %v, %v", again, err)
		}
		if _, err := client.ConfigMaps.Get(t.Context(), c, key.Namespace, key.Name); !apierrors.IsNotFound(err) {
			t.Errorf("it is back at once: %v", err)
		}
		time.Sleep(again.After)
		if _, err := k.Reconcile(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := client.ConfigMaps.Get(t.Context(), c, key.Namespace, key.Name); err != nil {
			t.Error(err)
		}
	})
}
