package rootcapublisher

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const (
	configMapName         = "kube-root-ca.crt"
	descriptionAnnotation = "kubernetes.io/description"
	description           = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Constructor makes the controller; ca returns the authority's certificate, in PEM.
func Constructor(ca func() []byte) controller.Constructor {
	return controller.Constructor{
		Name: "root-ca-cert-publisher",
		User: "system:serviceaccount:kube-system:root-ca-cert-publisher",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			namespaces, err := client.Namespaces.View(ctx, env.Client, client.Selection{})
			if err != nil {
				return controller.Controller{}, err
			}
			configMaps, err := client.ConfigMaps.View(ctx, env.Client, client.Selection{Name: configMapName})
			p := &publisher{client: env.Client, namespaces: namespaces, configMaps: configMaps, ca: ca, metrics: newMetrics()}
			if err == nil {
				err = env.Register(p.metrics.syncs, p.metrics.duration)
			}
			return controller.Controller{
				Name:      "root-ca-cert-publisher",
				Inputs:    []controller.Input{{View: namespaces.View, Keys: controller.Self}, {View: configMaps.View, Keys: controller.Namespace}},
				Outputs:   []string{"configmaps"},
				Reconcile: p.reconcile,
			}, err
		},
	}
}

type publisher struct {
	client     client.Client
	namespaces client.TypedView[*corev1.Namespace]
	configMaps client.TypedView[*corev1.ConfigMap]
	ca         func() []byte
	metrics    *metrics
}

func (p *publisher) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	began := time.Now()
	err := p.publish(ctx, key)
	p.metrics.synced(time.Since(began), err)
	return controller.Again{}, err
}

// publish makes a namespace's copy right.
func (p *publisher) publish(ctx context.Context, key controller.Key) error {
	ns, ok := p.namespaces.Get("", key.Name)
	if !ok || ns.Status.Phase == corev1.NamespaceTerminating {
		return nil
	}
	data := map[string]string{"ca.crt": string(p.ca())}
	have, ok := p.configMaps.Get(key.Name, configMapName)
	var err error
	switch {
	case !ok:
		_, err = client.ConfigMaps.Create(ctx, p.client, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: configMapName, Annotations: map[string]string{descriptionAnnotation: description}},
			Data:       data,
		})
	case maps.Equal(have.Data, data) && have.Annotations[descriptionAnnotation] != "":
	default:
		next := have.DeepCopy()
		next.Data = data
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[descriptionAnnotation] = description
		_, err = client.ConfigMaps.Update(ctx, p.client, next)
	}
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return fmt.Errorf("publish the authority in namespace %s: %w", key.Name, err)
}
