package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const accountName = "default"

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "serviceaccount", User: "system:serviceaccount:kube-system:service-account-controller", New: New}
}

// New makes the controller; its keys are namespaces.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	namespaces, err := client.Namespaces.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	accounts, err := client.ServiceAccounts.View(ctx, env.Client, client.Selection{})
	r := &reconciler{client: env.Client, namespaces: namespaces, accounts: accounts}
	return controller.Controller{
		Name:      "serviceaccount",
		Inputs:    []controller.Input{{View: namespaces.View, Keys: controller.Self}, {View: accounts.View, Keys: ofDeleted}},
		Outputs:   []string{"serviceaccounts"},
		Reconcile: r.reconcile,
	}, err
}

// ofDeleted maps a default account that went away to its namespace.
func ofDeleted(c client.Change) []controller.Key {
	if c.New != nil || c.Old.Name() != accountName {
		return nil
	}
	return controller.Namespace(c)
}

type reconciler struct {
	client     client.Client
	namespaces client.TypedView[*corev1.Namespace]
	accounts   client.TypedView[*corev1.ServiceAccount]
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	ns, ok := r.namespaces.Get("", key.Name)
	if !ok || ns.Status.Phase == corev1.NamespaceTerminating {
		return controller.Again{}, nil
	}
	if _, ok := r.accounts.Get(key.Name, accountName); ok {
		return controller.Again{}, nil
	}
	_, err := client.ServiceAccounts.Create(ctx, r.client, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: accountName}})
	switch {
	case err == nil, apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return controller.Again{}, nil
	}
	return controller.Again{}, fmt.Errorf("make the service account of namespace %s: %w", key.Name, err)
}
