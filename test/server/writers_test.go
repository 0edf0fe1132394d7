package server

import (
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAThousandWritersOfOneObjectLoseNoUpdate(t *testing.T) {
	const writers = 1000
	maps := api.client(t).CoreV1().ConfigMaps("default")
	ctx := t.Context()
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counter"}, Data: map[string]string{"n": "0"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// increment is get, modify and update; a conflict is tried again, as each client of Kubernetes does.
	increment := func() error {
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 4*time.Second) {
			m, err := maps.Get(ctx, "counter", metav1.GetOptions{})
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(m.Data["n"])
			if err != nil {
				return err
			}
			m.Data["n"] = strconv.Itoa(n + 1)
			_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
			if !apierrors.IsConflict(err) {
				return err
			}
			time.Sleep(time.Duration(rand.Int63n(int64(pause))))
		}
	}
	var group sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		group.Go(func() { errs <- increment() })
	}
	group.Wait()
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	m, err := maps.Get(ctx, "counter", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Data["n"] != fmt.Sprint(writers) {
		t.Errorf("%d writers have counted to %s", writers, m.Data["n"])
	}
}
