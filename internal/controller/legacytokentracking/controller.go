package legacytokentracking

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const (
	// ConfigMapName names the ConfigMap in kube-system.
	ConfigMapName = "kube-apiserver-legacy-service-account-token-tracking"
	// SinceKey is the key of its data.
	SinceKey = "since"
	// DateForm is the form of the day that it holds.
	DateForm = time.DateOnly
)

// pause is how long the ConfigMap stays away if somebody deletes it again and again: a kube-apiserver beside this one that doesn't track.
const pause = 30 * time.Minute

// Constructor makes the controller. It acts as the API server, whose own business this is.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "legacy-token-tracking", User: "system:apiserver", New: New}
}

// New makes the controller; its only key is the ConfigMap.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	view, err := client.ConfigMaps.View(ctx, env.Client, client.Selection{Namespace: metav1.NamespaceSystem, Name: ConfigMapName})
	if err != nil {
		return controller.Controller{}, err
	}
	namespaces, err := client.Namespaces.View(ctx, env.Client, client.Selection{Name: metav1.NamespaceSystem})
	t := &tracker{client: env.Client, view: view}
	own := func(client.Change) []controller.Key {
		return []controller.Key{{Namespace: metav1.NamespaceSystem, Name: ConfigMapName}}
	}
	return controller.Controller{
		Name:      "legacy_token_tracking_controller",
		Inputs:    []controller.Input{{View: view.View, Keys: own}, {View: namespaces.View, Keys: own}},
		Outputs:   []string{"configmaps"},
		Workers:   1,
		Reconcile: t.reconcile,
	}, err
}

type tracker struct {
	client client.Client
	view   client.TypedView[*corev1.ConfigMap]

	mu   sync.Mutex
	made time.Time // when the ConfigMap was made last, by this process
}

func (t *tracker) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	now := time.Now()
	have, ok := t.view.Get(key.Namespace, key.Name)
	if !ok {
		return t.create(ctx, key, now)
	}
	if _, err := time.Parse(DateForm, have.Data[SinceKey]); err == nil {
		return controller.Again{}, nil
	}
	next := have.DeepCopy()
	next.Data = maps.Clone(have.Data)
	if next.Data == nil {
		next.Data = map[string]string{}
	}
	next.Data[SinceKey] = now.UTC().Format(DateForm)
	_, err := client.ConfigMaps.Update(ctx, t.client, next)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return controller.Again{}, fmt.Errorf("note in %s since when tokens are tracked: %w", key, err)
	}
	return controller.Again{}, nil
}

func (t *tracker) create(ctx context.Context, key controller.Key, now time.Time) (controller.Again, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.made.Add(pause).Sub(now); !t.made.IsZero() && wait > 0 {
		return controller.Again{After: wait}, nil
	}
	_, err := client.ConfigMaps.Create(ctx, t.client, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data:       map[string]string{SinceKey: now.UTC().Format(DateForm)},
	})
	switch {
	case apierrors.IsAlreadyExists(err):
		return controller.Again{}, nil
	case err != nil:
		return controller.Again{}, fmt.Errorf("make %s: %w", key, err)
	}
	t.made = now
	return controller.Again{}, nil
}
