package csrapproving

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/pki"
)

var requests = client.Kind[*certificatesv1.CertificateSigningRequest]{GVR: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests")}

const output = "certificates.k8s.io/certificatesigningrequests"

// Constructor makes the controller that approves nodes' client certificates; az says who may have one.
func Constructor(az authorizer.Authorizer) controller.Constructor {
	return controller.Constructor{
		Name: "csrapproving",
		User: "system:serviceaccount:kube-system:certificate-controller",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := requests.View(ctx, env.Client, client.Selection{})
			a := &clients{client: env.Client, view: view, authorizer: az}
			return controller.Controller{
				Name:      "csrapproving",
				Inputs:    []controller.Input{{View: view.View, Keys: controller.Self}},
				Outputs:   []string{output},
				Reconcile: a.reconcile,
			}, err
		},
	}
}

type clients struct {
	client     client.Client
	view       client.TypedView[*certificatesv1.CertificateSigningRequest]
	authorizer authorizer.Authorizer
}

func (a *clients) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	r, ok := a.view.Get("", key.Name)
	if !ok || !open(r) {
		return controller.Again{}, nil
	}
	x, err := pki.ParseRequest(r.Spec.Request)
	if err != nil {
		return controller.Again{}, nil // validation lets no such request in; there is nothing to retry
	}
	for _, g := range clientGrants(r, x) {
		decision, _, err := a.authorizer.Authorize(ctx, permission(r, g.subresource))
		if err != nil && decision != authorizer.DecisionAllow {
			return controller.Again{}, fmt.Errorf("ask whether %s may have its certificate approved: %w", r.Spec.Username, err)
		}
		if decision == authorizer.DecisionAllow {
			return controller.Again{}, approve(ctx, a.client, approved(r, g.message))
		}
	}
	return controller.Again{}, nil
}

func permission(r *certificatesv1.CertificateSigningRequest, subresource string) authorizer.Attributes {
	extra := map[string][]string{}
	for k, v := range r.Spec.Extra {
		extra[k] = v
	}
	return authorizer.AttributesRecord{
		User:            &user.DefaultInfo{Name: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra},
		Verb:            "create",
		APIGroup:        certificatesv1.GroupName,
		APIVersion:      "*",
		Resource:        "certificatesigningrequests",
		Subresource:     subresource,
		ResourceRequest: true,
	}
}

func approve(ctx context.Context, c client.Client, r *certificatesv1.CertificateSigningRequest) error {
	if _, err := c.Update(ctx, requests.GVR, "approval", r, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("approve the request %s: %w", r.Name, err)
	}
	return nil
}

// ServingConstructor makes the controller that approves nodes' serving certificates.
func ServingConstructor() controller.Constructor {
	return controller.Constructor{
		Name: "csrapproving-serving",
		User: "system:serviceaccount:kube-system:kubelet-serving-approver",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := requests.View(ctx, env.Client, client.Selection{})
			if err != nil {
				return controller.Controller{}, err
			}
			nodes, err := client.Nodes.View(ctx, env.Client, client.Selection{})
			s := &servers{client: env.Client, view: view, nodes: nodes}
			return controller.Controller{
				Name:      "csrapproving-serving",
				Inputs:    []controller.Input{{View: view.View, Keys: controller.Self}, {View: nodes.View, Keys: s.requestsOf}},
				Outputs:   []string{output},
				Reconcile: s.reconcile,
			}, err
		},
	}
}

type servers struct {
	client client.Client
	view   client.TypedView[*certificatesv1.CertificateSigningRequest]
	nodes  client.TypedView[*corev1.Node]
}

// requestsOf maps a node, whose addresses may have become known, to its open requests.
func (s *servers) requestsOf(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	var keys []controller.Key
	for _, r := range s.view.List("", nil) {
		if r.Spec.Username == nodeUser+c.New.Name() && r.Spec.SignerName == certificatesv1.KubeletServingSignerName && open(r) {
			keys = append(keys, controller.Key{Name: r.Name})
		}
	}
	return keys
}

func (s *servers) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	r, ok := s.view.Get("", key.Name)
	if !ok || !open(r) {
		return controller.Again{}, nil
	}
	x, err := pki.ParseRequest(r.Spec.Request)
	if err != nil {
		return controller.Again{}, nil // validation lets no such request in; there is nothing to retry
	}
	name, ok := servingNode(r, x)
	if !ok {
		return controller.Again{}, nil
	}
	node, ok := s.nodes.Get("", name)
	if !ok || !reportsAll(node, x) {
		return controller.Again{}, nil // a change of the node brings the request back
	}
	return controller.Again{}, approve(ctx, s.client, approved(r, "Auto approving kubelet serving certificate for the node's own names and addresses."))
}
