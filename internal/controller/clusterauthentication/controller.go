package clusterauthentication

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const configMapName = "extension-apiserver-authentication"

// Constructor makes the controller; the functions return the authorities of clients and of the front proxy, in PEM. It acts as the API server,
// whose own business this is: its user needs the group system:masters.
func Constructor(clientCA, proxyCA func() []byte, proxy Proxy) controller.Constructor {
	return controller.Constructor{
		Name: "cluster-authentication",
		User: "system:apiserver",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := client.ConfigMaps.View(ctx, env.Client, client.Selection{Namespace: metav1.NamespaceSystem, Name: configMapName})
			if err != nil {
				return controller.Controller{}, err
			}
			namespaces, err := client.Namespaces.View(ctx, env.Client, client.Selection{Name: metav1.NamespaceSystem})
			p := &publisher{client: env.Client, view: view, clientCA: clientCA, proxyCA: proxyCA, proxy: proxy}
			own := func(client.Change) []controller.Key {
				return []controller.Key{{Namespace: metav1.NamespaceSystem, Name: configMapName}}
			}
			return controller.Controller{
				Name:      "cluster-authentication",
				Inputs:    []controller.Input{{View: view.View, Keys: own}, {View: namespaces.View, Keys: own}},
				Outputs:   []string{"configmaps"},
				Workers:   1,
				Reconcile: p.reconcile,
			}, err
		},
	}
}

type publisher struct {
	client            client.Client
	view              client.TypedView[*corev1.ConfigMap]
	clientCA, proxyCA func() []byte
	proxy             Proxy
}

func (p *publisher) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	have, ok := p.view.Get(key.Namespace, key.Name)
	var before map[string]string
	if ok {
		before = have.Data
	}
	data, err := published(before, p.clientCA(), p.proxyCA(), p.proxy)
	if err != nil || ok && maps.Equal(data, before) {
		return controller.Again{}, err
	}
	if ok {
		next := have.DeepCopy()
		next.Data = data
		_, err = client.ConfigMaps.Update(ctx, p.client, next)
	} else {
		_, err = client.ConfigMaps.Create(ctx, p.client, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: data})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return controller.Again{}, fmt.Errorf("publish %s: %w", key, err)
	}
	return controller.Again{}, nil
}
