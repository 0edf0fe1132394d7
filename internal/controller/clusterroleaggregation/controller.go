package clusterroleaggregation

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

var clusterRoles = client.Kind[*rbacv1.ClusterRole]{GVR: rbacv1.SchemeGroupVersion.WithResource("clusterroles")}

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "clusterrole-aggregation", User: "system:serviceaccount:kube-system:clusterrole-aggregation-controller", New: New}
}

// New makes the controller; its keys are the roles that aggregate.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	roles, err := clusterRoles.View(ctx, env.Client, client.Selection{})
	a := &aggregator{client: env.Client, roles: roles}
	return controller.Controller{
		Name:      "clusterrole-aggregation",
		Inputs:    []controller.Input{{View: roles.View, Keys: a.aggregating}},
		Outputs:   []string{"rbac.authorization.k8s.io/clusterroles"},
		Reconcile: a.reconcile,
	}, err
}

type aggregator struct {
	client client.Client
	roles  client.TypedView[*rbacv1.ClusterRole]
}

// aggregating maps any change to all roles that aggregate: there are few, and each may have selected the role before or now.
func (a *aggregator) aggregating(client.Change) []controller.Key {
	var keys []controller.Key
	for _, r := range a.roles.List("", nil) {
		if r.AggregationRule != nil {
			keys = append(keys, controller.Key{Name: r.Name})
		}
	}
	return keys
}

func (a *aggregator) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	role, ok := a.roles.Get("", key.Name)
	if !ok || role.AggregationRule == nil || role.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	rules, err := aggregated(role, a.roles.List("", nil))
	if err != nil || equality.Semantic.DeepEqual(role.Rules, rules) {
		return controller.Again{}, err
	}
	next := role.DeepCopy()
	next.Rules = rules
	if _, err := clusterRoles.Update(ctx, a.client, next); err != nil {
		return controller.Again{}, fmt.Errorf("aggregate the rules of %s: %w", role.Name, err)
	}
	return controller.Again{}, nil
}
