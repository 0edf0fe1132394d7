package serviceaccounttoken

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// Signer signs the token of a Secret.
type Signer func(namespace, account string, uid types.UID, secret string) (string, error)

// Constructor makes the controller; ca returns the authority's certificate, in PEM.
func Constructor(sign Signer, ca func() []byte) controller.Constructor {
	return controller.Constructor{
		Name: "serviceaccount-token",
		User: "system:kube-controller-manager",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			r := &reconciler{client: env.Client, sign: sign, ca: ca}
			if err := client.Open(ctx, env.Client, client.Secrets.Into(&r.secrets), client.ServiceAccounts.Into(&r.accounts)); err != nil {
				return controller.Controller{}, err
			}
			return controller.Controller{
				Name:      "serviceaccount-token",
				Inputs:    []controller.Input{{View: r.secrets.View, Keys: controller.ServiceAccountToken}, {View: r.accounts.View, Keys: r.secretsOf}},
				Outputs:   []string{"secrets"},
				Reconcile: r.reconcile,
			}, nil
		},
	}
}

type reconciler struct {
	client   client.Client
	secrets  client.TypedView[*corev1.Secret]
	accounts client.TypedView[*corev1.ServiceAccount]
	sign     Signer
	ca       func() []byte
}

// secretsOf maps an account to the Secrets that name it. An update of an account changes nothing for them.
func (r *reconciler) secretsOf(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil && c.Old.UID() == c.New.UID() {
		return nil
	}
	account := controller.Self(c)[0]
	var keys []controller.Key
	for _, s := range r.secrets.List(account.Namespace, nil) {
		if name, _ := accountOf(s); name == account.Name {
			keys = append(keys, controller.Key{Namespace: s.Namespace, Name: s.Name})
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	s, ok := r.secrets.Get(key.Namespace, key.Name)
	if !ok || s.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	name, _ := accountOf(s)
	if name == "" {
		return controller.Again{}, nil
	}
	sa, err := r.account(ctx, key.Namespace, name)
	if err != nil {
		return controller.Again{}, err
	}
	if !belongs(s, sa) {
		return controller.Again{}, r.remove(ctx, s)
	}
	next, err := filled(s, sa, r.ca(), func() (string, error) { return r.sign(s.Namespace, sa.Name, sa.UID, s.Name) })
	if err != nil || next == nil {
		return controller.Again{}, err
	}
	if _, err := client.Secrets.Update(ctx, r.client, next); err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("fill the token secret %s: %w", key, err)
	}
	return controller.Again{}, nil
}

// account returns an account, or nil if there certainly is none.
func (r *reconciler) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if sa, ok := r.accounts.Get(namespace, name); ok {
		return sa, nil
	}
	sa, err := client.ServiceAccounts.Get(ctx, r.client, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return sa, err
}

func (r *reconciler) remove(ctx context.Context, s *corev1.Secret) error {
	uid, version := s.UID, s.ResourceVersion
	err := client.Secrets.Delete(ctx, r.client, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the token secret %s/%s, whose account is gone: %w", s.Namespace, s.Name, err)
	}
	return nil
}
