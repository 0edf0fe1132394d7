package resourceclaim

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

// A key names a pod or a claim: these come before its name.
const (
	podPrefix   = "pod:"
	claimPrefix = "claim:"
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	metrics   *metrics
	pods      client.TypedView[*corev1.Pod]
	claims    client.TypedView[*resourcev1.ResourceClaim]
	templates client.TypedView[*resourcev1.ResourceClaimTemplate]
	users     users
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("resource_claim"), users: newUsers()}
	err := client.Open(ctx, env.Client, client.Pods.Into(&r.pods), client.ResourceClaims.Into(&r.claims), client.ResourceClaimTemplates.Into(&r.templates))
	if err != nil {
		return controller.Controller{}, err
	}
	r.metrics = newMetrics(r.claims)
	if err := env.Register(r.metrics); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "resource_claim",
		Inputs: []controller.Input{
			{View: r.pods.View, Keys: r.ofPod},
			{View: r.claims.View, Keys: r.ofClaim},
			{View: r.templates.View, Keys: r.ofTemplate},
		},
		Outputs:   []string{"resource.k8s.io/resourceclaims", "pods/status"},
		Workers:   10,
		Reconcile: r.reconcile,
	}, nil
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if name, ok := strings.CutPrefix(key.Name, podPrefix); ok {
		return controller.Again{}, r.reconcilePod(ctx, key.Namespace, name)
	}
	return controller.Again{}, r.reconcileClaim(ctx, key.Namespace, strings.TrimPrefix(key.Name, claimPrefix))
}

// ofPod maps a pod to itself, and to its claims once it no longer needs them.
func (r *reconciler) ofPod(c client.Change) []controller.Key {
	var before, after *corev1.Pod
	if c.Old != nil {
		before = c.Old.Object().(*corev1.Pod)
	}
	if c.New != nil {
		after = c.New.Object().(*corev1.Pod)
	}
	if !claims(before) && !claims(after) {
		return nil
	}
	r.users.update(before, after)
	var keys []controller.Key
	if before != nil && (after == nil || after.UID != before.UID) {
		keys = append(keys, claimKeys(before)...)
	}
	if after == nil {
		return keys
	}
	if done(after) {
		keys = append(keys, claimKeys(after)...)
	}
	if after.DeletionTimestamp == nil {
		keys = append(keys, podKey(after.Namespace, after.Name))
	}
	return keys
}

// ofClaim maps a claim to itself and to the pods that use it.
func (r *reconciler) ofClaim(c client.Change) []controller.Key {
	self := controller.Self(c)[0]
	keys := r.users.ofClaim(self)
	if c.New != nil {
		keys = append(keys, controller.Key{Namespace: self.Namespace, Name: claimPrefix + self.Name})
	}
	for _, owner := range controller.OwnerOf("Pod")(c) {
		keys = append(keys, podKey(owner.Namespace, owner.Name))
	}
	return keys
}

// ofTemplate maps a template to the pods that wait for it.
func (r *reconciler) ofTemplate(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	return r.users.ofTemplate(controller.Self(c)[0])
}

func podKey(namespace, name string) controller.Key {
	return controller.Key{Namespace: namespace, Name: podPrefix + name}
}

// claims tells whether a pod has anything to do with claims.
func claims(pod *corev1.Pod) bool {
	return pod != nil && (len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil)
}

// claimKeys are those of all claims that a pod uses.
func claimKeys(pod *corev1.Pod) []controller.Key {
	var keys []controller.Key
	for _, name := range claimNames(pod) {
		keys = append(keys, controller.Key{Namespace: pod.Namespace, Name: claimPrefix + name})
	}
	return keys
}
