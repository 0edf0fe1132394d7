package namespace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func TestConditionsTellWhatHoldsADeletionUp(t *testing.T) {
	c := &content{
		remaining:  map[schema.GroupVersionResource]int{{Version: "v1", Resource: "pods"}: 2, {Group: "apps", Version: "v1", Resource: "deployments"}: 1},
		finalizers: map[string]int{"example.com/hold": 1},
		failed:     []error{errors.New("boom")},
	}
	got := map[corev1.NamespaceConditionType]string{}
	for _, cond := range c.conditions() {
		got[cond.Type] = string(cond.Status) + " " + cond.Reason + ": " + cond.Message
	}
	for kind, want := range map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionDiscoveryFailure: "False ResourcesDiscovered: All resources successfully discovered",
		corev1.NamespaceDeletionGVParsingFailure: "False ParsedGroupVersions: All legacy kube types successfully parsed",
		corev1.NamespaceDeletionContentFailure:   "True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: boom",
		corev1.NamespaceContentRemaining:         "True SomeResourcesRemain: Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances",
		corev1.NamespaceFinalizersRemaining:      "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
	} {
		if got[kind] != want {
			t.Errorf("got %q, want %q", got[kind], want)
		}
	}
}

func TestANamespaceIsEmptiedPodsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "gone", Name: name} }
		held := &corev1.Pod{ObjectMeta: meta("held")}
		held.Finalizers = []string{"example.com/hold"}
		now := metav1.Now()
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gone", DeletionTimestamp: &now, Finalizers: []string{"test/keep"}},
			Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
		other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "stays", Name: "a"}}
		c := clienttest.New(ns, held, &corev1.ConfigMap{ObjectMeta: meta("a")}, other)
		verbs := []string{"list", "delete", "deletecollection"}
		c.Serve([]client.KindInfo{
			{GroupVersionResource: client.Pods.GVR, Kind: "Pod", Namespaced: true, Verbs: verbs},
			{GroupVersionResource: client.ConfigMaps.GVR, Kind: "ConfigMap", Namespaced: true, Verbs: verbs},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "namespace", New: New}})
		}()
		time.Sleep(time.Second)
		if _, err := client.ConfigMaps.Get(ctx, c, "gone", "a"); err != nil {
			t.Errorf("the config map went before the pod: %v", err)
		}
		now2, err := client.Namespaces.Get(ctx, c, "", "gone")
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(now2.Status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == corev1.NamespaceFinalizersRemaining }); i < 0 ||
			!strings.Contains(now2.Status.Conditions[i].Message, "example.com/hold in 1") {
			t.Errorf("conditions are %+v", now2.Status.Conditions)
		}
		pod, _ := client.Pods.Get(ctx, c, "gone", "held")
		pod = pod.DeepCopy()
		pod.Finalizers = nil
		if _, err := client.Pods.Update(ctx, c, pod); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := client.ConfigMaps.Get(ctx, c, "gone", "a"); !apierrors.IsNotFound(err) {
			t.Errorf("the config map is still there: %v", err)
		}
		finalized := slices.ContainsFunc(c.Writes(), func(w clienttest.Write) bool { return w.Subresource == "finalize" })
		if !finalized {
			t.Error("the namespace was not finalized")
		}
		if _, err := client.ConfigMaps.Get(ctx, c, "stays", "a"); err != nil {
			t.Errorf("another namespace lost an object: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
