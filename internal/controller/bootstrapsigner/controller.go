package bootstrapsigner

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const infoName = "cluster-info"

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "bootstrapsigner", User: "system:serviceaccount:kube-system:bootstrap-signer", New: New}
}

// New makes the controller; its one key is the ConfigMap.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	infos, err := client.ConfigMaps.View(ctx, env.Client, client.Selection{Namespace: metav1.NamespacePublic, Name: infoName})
	if err != nil {
		return controller.Controller{}, err
	}
	secrets, err := client.Secrets.View(ctx, env.Client, client.Selection{Namespace: metav1.NamespaceSystem})
	s := &signer{client: env.Client, infos: infos, secrets: secrets}
	info := func(client.Change) []controller.Key {
		return []controller.Key{{Namespace: metav1.NamespacePublic, Name: infoName}}
	}
	return controller.Controller{
		Name:      "bootstrapsigner",
		Inputs:    []controller.Input{{View: infos.View, Keys: info}, {View: secrets.View, Keys: info}},
		Outputs:   []string{"configmaps"},
		Workers:   1,
		Reconcile: s.reconcile,
	}, err
}

type signer struct {
	client  client.Client
	infos   client.TypedView[*corev1.ConfigMap]
	secrets client.TypedView[*corev1.Secret]
}

func (s *signer) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	info, ok := s.infos.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	data, until, err := signed(info.Data, s.secrets.List(metav1.NamespaceSystem, nil), time.Now())
	if err != nil {
		return controller.Again{}, err
	}
	again := controller.Again{}
	if !until.IsZero() {
		again.After = time.Until(until) + time.Second
	}
	if maps.Equal(data, info.Data) {
		return again, nil
	}
	next := info.DeepCopy()
	next.Data = data
	if _, err := client.ConfigMaps.Update(ctx, s.client, next); err != nil {
		return controller.Again{}, fmt.Errorf("sign %s: %w", key, err)
	}
	return again, nil
}
