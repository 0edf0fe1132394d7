package tokencleaner

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "tokencleaner", User: "system:serviceaccount:kube-system:token-cleaner", New: New}
}

// New makes the controller; its keys are the Secrets of kube-system.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	secrets, err := client.Secrets.View(ctx, env.Client, client.Selection{Namespace: metav1.NamespaceSystem})
	c := &cleaner{client: env.Client, secrets: secrets}
	return controller.Controller{
		Name:      "tokencleaner",
		Inputs:    []controller.Input{{View: secrets.View, Keys: controller.Self}},
		Outputs:   []string{"secrets"},
		Workers:   1,
		Reconcile: c.reconcile,
	}, err
}

type cleaner struct {
	client  client.Client
	secrets client.TypedView[*corev1.Secret]
}

func (c *cleaner) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || s.Type != corev1.SecretTypeBootstrapToken || s.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	expires, ok := expiry(s)
	if !ok {
		return controller.Again{}, nil
	}
	if wait := time.Until(expires); wait > 0 {
		return controller.Again{After: wait}, nil
	}
	uid := s.UID
	err := client.Secrets.Delete(ctx, c.client, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return controller.Again{}, fmt.Errorf("delete the expired bootstrap token %s: %w", s.Name, err)
	}
	return controller.Again{}, nil
}

// expiry returns when a token ends. One whose end cannot be read has ended; one without never does.
func expiry(s *corev1.Secret) (time.Time, bool) {
	at := string(s.Data["expiration"])
	if at == "" {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return time.Time{}, true
	}
	return t, true
}
