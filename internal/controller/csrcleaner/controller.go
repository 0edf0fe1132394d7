package csrcleaner

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

var requests = client.Kind[*certificatesv1.CertificateSigningRequest]{GVR: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests")}

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{
		Name: "csrcleaner",
		User: "system:serviceaccount:kube-system:certificate-controller",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := requests.View(ctx, env.Client, client.Selection{})
			c := &cleaner{client: env.Client, view: view}
			return controller.Controller{
				Name:      "csrcleaner",
				Inputs:    []controller.Input{{View: view.View, Keys: controller.Self}},
				Outputs:   []string{"certificates.k8s.io/certificatesigningrequests"},
				Workers:   1,
				Reconcile: c.reconcile,
			}, err
		},
	}
}

type cleaner struct {
	client client.Client
	view   client.TypedView[*certificatesv1.CertificateSigningRequest]
}

func (c *cleaner) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	r, ok := c.view.Get("", key.Name)
	if !ok || r.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	if wait := time.Until(deleteAt(r)); wait > 0 {
		return controller.Again{After: wait}, nil
	}
	uid := r.UID
	err := requests.Delete(ctx, c.client, "", r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("unable to delete CSR %q: %w", r.Name, err)
	}
	return controller.Again{}, nil
}
