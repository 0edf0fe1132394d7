package apiserver_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store/storetest"
)

func TestComponentStatusesAreAskedForAtEachRead(t *testing.T) {
	ctx := context.Background()
	f := newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: []*api.Resource{core.ComponentStatuses}, Security: admin()})
	var down error
	f.AddComponent("scheduler", func(context.Context) error { return down })
	statuses := f.clients(t, "").CoreV1().ComponentStatuses()
	list, err := statuses.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || list.Items[0].Name != "etcd-0" || list.Items[1].Name != "scheduler" {
		t.Fatalf("got %+v", list.Items)
	}
	down = errors.New("asleep")
	one, err := statuses.Get(ctx, "scheduler", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionFalse, Error: "asleep"}
	if len(one.Conditions) != 1 || one.Conditions[0] != want {
		t.Errorf("got %+v", one.Conditions)
	}
	if _, err := statuses.Get(ctx, "nothing", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	list, err = statuses.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=etcd-0"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("got %+v, %v", list, err)
	}
}
