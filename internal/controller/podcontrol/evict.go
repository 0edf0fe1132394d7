package podcontrol

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// Evict says on the pod why it goes, by the condition DisruptionTarget, and deletes it. A pod that is gone is no error.
func Evict(ctx context.Context, c client.Client, pod *corev1.Pod, reason, message string) error {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message,
			LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation,
		}}},
	})
	if err != nil {
		return err
	}
	_, err = client.Pods.Patch(ctx, c, pod.Namespace, pod.Name, "status", types.StrategicMergePatchType, data, metav1.PatchOptions{})
	if err == nil {
		err = client.Pods.Delete(ctx, c, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evict pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// Marks remembers which pods have been given a time to go. The zero value has none; it may be used by several goroutines.
type Marks struct {
	mu   sync.Mutex
	keys map[controller.Key]bool
}

// Set marks a pod or forgets it, and returns whether it was marked.
func (m *Marks) Set(key controller.Key, marked bool) (before bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before = m.keys[key]
	if !marked {
		delete(m.keys, key)
		return before
	}
	if m.keys == nil {
		m.keys = map[controller.Key]bool{}
	}
	m.keys[key] = true
	return before
}
