package policystatus

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const name = "validatingadmissionpolicy-status"

var policies = client.Kind[*admissionv1.ValidatingAdmissionPolicy]{GVR: admissionv1.SchemeGroupVersion.WithResource("validatingadmissionpolicies")}

// Schemas finds the schema of a kind, in which no reference is left; nil if there is none.
type Schemas func(schema.GroupVersionKind) (*spec.Schema, error)

// Constructor makes the controller.
func Constructor(schemas Schemas) controller.Constructor {
	return controller.Constructor{
		Name: name, Needs: []schema.GroupVersionResource{policies.GVR},
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			view, err := policies.View(ctx, env.Client, client.Selection{})
			c := &checker{client: env.Client, view: view, schemas: schemas}
			return controller.Controller{
				Name: name, Inputs: []controller.Input{{View: view.View, Keys: controller.Self}}, Outputs: []string{"admissionregistration.k8s.io/validatingadmissionpolicies"},
				Workers: 1, Reconcile: c.reconcile,
			}, err
		},
	}
}

type checker struct {
	client  client.Client
	view    client.TypedView[*admissionv1.ValidatingAdmissionPolicy]
	schemas Schemas
}

func (c *checker) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	p, ok := c.view.Get("", key.Name)
	if !ok || p.DeletionTimestamp != nil || p.Generation <= p.Status.ObservedGeneration {
		return controller.Again{}, nil
	}
	found, err := c.check(ctx, p)
	if err != nil {
		return controller.Again{}, fmt.Errorf("check the expressions of %s: %w", p.Name, err)
	}
	status := map[string]any{"observedGeneration": p.Generation, "typeChecking": admissionv1.TypeChecking{ExpressionWarnings: found}}
	patch, err := json.Marshal(map[string]any{
		"apiVersion": admissionv1.SchemeGroupVersion.String(), "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": p.Name}, "status": status,
	})
	if err != nil {
		return controller.Again{}, err
	}
	force := true
	_, err = policies.Patch(ctx, c.client, "", p.Name, "status", types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: name, Force: &force})
	if err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("tell the status of %s: %w", p.Name, err)
	}
	return controller.Again{}, nil
}

func (c *checker) check(ctx context.Context, p *admissionv1.ValidatingAdmissionPolicy) ([]admissionv1.ExpressionWarning, error) {
	var kinds []typed
	for _, gvk := range kindsOf(p, c.client.Kinds(ctx, nil)) {
		decl, err := c.declared(gvk, "object")
		if err != nil {
			return nil, err
		}
		if decl != nil {
			kinds = append(kinds, typed{gvk, decl})
		}
	}
	if len(kinds) == 0 {
		return nil, nil
	}
	var params *apiservercel.DeclType
	if k := p.Spec.ParamKind; k != nil {
		var err error
		if params, err = c.declared(schema.FromAPIVersionAndKind(k.APIVersion, k.Kind), "params"); err != nil {
			return nil, err
		}
	}
	return warnings(p, kinds, params)
}

// declared is a kind's type; nil if it isn't known. role keeps the names of types apart that one expression sees.
func (c *checker) declared(gvk schema.GroupVersionKind, role string) (*apiservercel.DeclType, error) {
	s, err := c.schemas(gvk)
	if err != nil || s == nil {
		return nil, err
	}
	decl := common.SchemaDeclType(&openapi.Schema{Schema: s}, true)
	if decl == nil {
		return nil, nil
	}
	return decl.MaybeAssignTypeName(gvk.Kind + "." + role), nil
}
