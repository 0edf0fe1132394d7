package legacytokencleaner

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/legacytokentracking"
)

// DefaultPeriod is how long a token must have been unused.
const DefaultPeriod = 365 * 24 * time.Hour

// every is how often tokens are looked at that nothing happens to.
const every = 24 * time.Hour

// Config says what is unused.
type Config struct {
	Period time.Duration
	// Mounted yields the names of the Secrets that a pod refers to.
	Mounted func(*corev1.Pod) iter.Seq[string]
}

// Constructor makes the controller.
func Constructor(cfg Config) controller.Constructor {
	return controller.Constructor{
		Name: "legacy-serviceaccount-token-cleaner",
		User: "system:serviceaccount:kube-system:legacy-service-account-token-cleaner",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			return newController(ctx, env, cfg)
		},
	}
}

func newController(ctx context.Context, env controller.Env, cfg Config) (controller.Controller, error) {
	c := &cleaner{Config: cfg, client: env.Client}
	if err := client.Open(ctx, env.Client, client.Secrets.Into(&c.secrets), client.ServiceAccounts.Into(&c.accounts), client.Pods.Into(&c.pods)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:      "legacy-serviceaccount-token-cleaner",
		Inputs:    []controller.Input{{View: c.secrets.View, Keys: controller.ServiceAccountToken}, {View: c.accounts.View}, {View: c.pods.View}},
		Outputs:   []string{"secrets"},
		Workers:   1,
		Reconcile: c.reconcile,
	}, nil
}

type cleaner struct {
	Config
	client   client.Client
	secrets  client.TypedView[*corev1.Secret]
	accounts client.TypedView[*corev1.ServiceAccount]
	pods     client.TypedView[*corev1.Pod]
}

func (c *cleaner) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || s.Type != corev1.SecretTypeServiceAccountToken {
		return controller.Again{}, nil
	}
	now := time.Now().UTC()
	if !s.CreationTimestamp.Time.Before(now.Add(-c.Period)) || c.mounted(s) {
		return controller.Again{After: every}, nil
	}
	since, err := c.since(ctx)
	if err != nil {
		return controller.Again{}, err
	}
	account, _ := c.accounts.Get(s.Namespace, s.Annotations[corev1.ServiceAccountNameKey])
	switch decide(s, account, since, now, c.Period) {
	case invalidate:
		err = c.invalidate(ctx, s, now)
	case remove:
		err = c.remove(ctx, s)
	}
	return controller.Again{After: every}, err
}

// since is the first day on which all uses were noted: the one after that on which the noting began.
func (c *cleaner) since(ctx context.Context) (time.Time, error) {
	m, err := client.ConfigMaps.Get(ctx, c.client, metav1.NamespaceSystem, legacytokentracking.ConfigMapName)
	if err != nil {
		return time.Time{}, fmt.Errorf("read since when tokens are tracked: %w", err)
	}
	day, err := time.Parse(legacytokentracking.DateForm, m.Data[legacytokentracking.SinceKey])
	if err != nil {
		return time.Time{}, fmt.Errorf("read since when tokens are tracked: %w", err)
	}
	return day.AddDate(0, 0, 1), nil
}

func (c *cleaner) mounted(s *corev1.Secret) bool {
	for _, pod := range c.pods.List(s.Namespace, nil) {
		for name := range c.Mounted(pod) {
			if name == s.Name {
				return true
			}
		}
	}
	return false
}

func (c *cleaner) invalidate(ctx context.Context, s *corev1.Secret, now time.Time) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": s.UID, "labels": map[string]string{invalidSinceLabel: now.Format(dateForm)},
	}})
	if err == nil {
		_, err = client.Secrets.Patch(ctx, c.client, s.Namespace, s.Name, "", types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("mark the unused token %s/%s as invalid: %w", s.Namespace, s.Name, err)
	}
	return nil
}

func (c *cleaner) remove(ctx context.Context, s *corev1.Secret) error {
	version := s.ResourceVersion
	err := client.Secrets.Delete(ctx, c.client, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete the unused token %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}
