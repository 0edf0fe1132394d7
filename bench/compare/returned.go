package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	goneObjects = 100000 // ConfigMaps of 1 KB
	// goneSettling is how long a side has to give back what objects took that are no more. Both sides compact every five minutes what is
	// as old, so it takes them up to ten to forget it all, and a collection after that.
	goneSettling = 12 * time.Minute
)

// measureReturned lets many objects come and go, and tells what they leave of the control plane's memory.
func measureReturned(ctx context.Context, s *side, c *kubernetes.Clientset, r *results) error {
	maps := c.CoreV1().ConfigMaps(namespace)
	name := func(i int) string { return fmt.Sprintf("gone-%06d", i) }
	before, _, err := storeMany(ctx, s, c, goneObjects, func(i int) error {
		_, err := maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name(i)}, Data: map[string]string{"text": strings.Repeat(fmt.Sprintf("line %d\n", i), 200)[:1000]},
		}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	peak, err := pss(s.pids)
	if err != nil {
		return err
	}
	each, err := perOperation(s, goneObjects, func(i int) error { return maps.Delete(ctx, name(i), metav1.DeleteOptions{}) })
	if err != nil {
		return err
	}
	r.add("CPU for a delete (1 KB ConfigMap)", "%s", milliseconds(each))
	if err := sleep(ctx, goneSettling); err != nil {
		return err
	}
	after, err := collectedMemory(ctx, s, c)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("memory that %d objects leave when they are gone (PSS; they had taken)", goneObjects), "%.0f MB (%.0f MB)",
		float64(after-before)/1e6, float64(peak-before)/1e6)
	return nil
}
