package csrsigning

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/pki"
)

var requests = client.Kind[*certificatesv1.CertificateSigningRequest]{GVR: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests")}

// Constructor makes the controller; by returns the authority that signs now.
func Constructor(by func() *pki.Authority) controller.Constructor {
	return controller.Constructor{
		Name: "csrsigning",
		User: "system:serviceaccount:kube-system:certificate-controller",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := requests.View(ctx, env.Client, client.Selection{})
			s := &signer{client: env.Client, view: view, by: by}
			return controller.Controller{
				Name:      "csrsigning",
				Inputs:    []controller.Input{{View: view.View, Keys: controller.Self}},
				Outputs:   []string{"certificates.k8s.io/certificatesigningrequests"},
				Reconcile: s.reconcile,
			}, err
		},
	}
}

type signer struct {
	client client.Client
	view   client.TypedView[*certificatesv1.CertificateSigningRequest]
	by     func() *pki.Authority
}

func (s *signer) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	r, ok := s.view.Get("", key.Name)
	if !ok || !due(r) {
		return controller.Again{}, nil
	}
	out, err := answer(r, s.by(), time.Now())
	if err != nil {
		return controller.Again{}, err
	}
	if _, err := requests.UpdateStatus(ctx, s.client, out); err != nil {
		return controller.Again{}, fmt.Errorf("error updating signature for csr: %w", err)
	}
	return controller.Again{}, nil
}
