package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	storedPods = 50000 // of about 2 KB
	// storedSettling is how long a side has, after a collection, to give back what it took while they were created.
	storedSettling = 75 * time.Second
)

// measureStored stores many pods that nobody schedules, and tells what each makes the control plane's processes grow by.
func measureStored(ctx context.Context, s *side, c *kubernetes.Clientset, r *results) error {
	pods := c.CoreV1().Pods(namespace)
	before, each, err := storeMany(ctx, s, c, storedPods, func(i int) error {
		_, err := pods.Create(ctx, storedPod(i), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	r.add("CPU for a create (2 KB pod)", "%s", milliseconds(each))
	after, err := collectedMemory(ctx, s, c)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory for each stored pod, of %d (PSS, after a collection)", storedPods), "%.1f KB", float64(after-before)/storedPods/1e3)
	return nil
}

// storeMany makes n objects, and returns the memory before and the CPU for each.
func storeMany(ctx context.Context, s *side, c *kubernetes.Clientset, n int, create func(i int) error) (before int64, each time.Duration, err error) {
	if before, err = collectedMemory(ctx, s, c); err != nil {
		return 0, 0, err
	}
	each, err = perOperation(s, n, create)
	return before, each, err
}

// collectedMemory asks the API server for a collection and reads the memory when the side has settled.
func collectedMemory(ctx context.Context, s *side, c *kubernetes.Clientset) (int64, error) {
	if _, err := c.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/heap").Param("gc", "1").DoRaw(ctx); err != nil {
		return 0, fmt.Errorf("ask for a collection: %w", err)
	}
	if err := sleep(ctx, storedSettling); err != nil {
		return 0, err
	}
	return pss(s.pids)
}

func storedPod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("stored-%05d", i),
			Labels:      map[string]string{"app": "stored-" + strconv.Itoa(i/10), "pod-template-hash": strconv.FormatInt(int64(i/10)*7919, 16)},
			Annotations: map[string]string{"bench/about": strings.Repeat(fmt.Sprintf("value-%d ", i), 40)[:300]},
		},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example.com/team/application:v1.2.3",
				Args:  []string{"--listen=:8080", "--log-level=info", "--config=/etc/app/config.yaml"},
				Ports: []corev1.ContainerPort{{ContainerPort: 8080, Name: "http"}, {ContainerPort: 9090, Name: "metrics"}},
				Env:   []corev1.EnvVar{{Name: "NUMBER", Value: strconv.Itoa(i)}, {Name: "MODE", Value: "production"}, {Name: "REGION", Value: "eu-central-1"}},
			}},
		},
	}
}
