package resourcequota

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/quota"
)

var quotas = client.Kind[*corev1.ResourceQuota]{GVR: corev1.SchemeGroupVersion.WithResource("resourcequotas")}

const (
	resync = 5 * time.Minute
	// settle is how soon a quota is counted anew while requests that use it are under way.
	settle = time.Second
	// soon is when it is tried again to count what changed meanwhile.
	soon = 50 * time.Millisecond
)

// Constructor makes the controller. The ledger is the one that admission reserves in.
func Constructor(ledger *quota.Ledger) controller.Constructor {
	return controller.Constructor{
		Name: "resourcequota",
		User: "system:serviceaccount:kube-system:resourcequota-controller",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			return newController(ctx, env, ledger)
		},
	}
}

type counter struct {
	client  client.Client
	quotas  client.TypedView[*corev1.ResourceQuota]
	views   map[schema.GroupResource]client.View // of the kinds that were served at the start
	devices quota.Devices
	ledger  *quota.Ledger
}

func newController(ctx context.Context, env controller.Env, ledger *quota.Ledger) (controller.Controller, error) {
	view, err := quotas.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	devices, err := quota.OpenDevices(ctx, env.Client)
	if err != nil {
		return controller.Controller{}, fmt.Errorf("follow devices: %w", err)
	}
	c := &counter{client: env.Client, quotas: view, views: map[schema.GroupResource]client.View{}, devices: devices, ledger: ledger}
	inputs := []controller.Input{{View: view.View, Keys: controller.Self}}
	for _, k := range env.Client.Kinds(ctx, nil) {
		gr := k.GroupVersionResource.GroupResource()
		if _, twice := c.views[gr]; twice || !countable(k.Namespaced, k.Verbs, gr) {
			continue
		}
		v, err := env.Client.View(ctx, k.GroupVersionResource, client.Selection{})
		if err != nil {
			return controller.Controller{}, fmt.Errorf("view %s: %w", gr, err)
		}
		c.views[gr] = v
		if gr != quotas.GVR.GroupResource() {
			inputs = append(inputs, controller.Input{View: v, Keys: c.freeing})
		}
	}
	return controller.Controller{Name: "resourcequota", Inputs: inputs, Outputs: []string{"resourcequotas"}, Reconcile: c.reconcile}, nil
}

// freeing maps a change that frees something to the quotas of its namespace.
func (c *counter) freeing(ch client.Change) []controller.Key {
	if ch.Old == nil {
		return nil
	}
	items := c.quotas.View.Items(ch.Old.Namespace(), nil)
	if len(items) == 0 || ch.New != nil && !freed(ch.Old.Object(), ch.New.Object()) {
		return nil
	}
	keys := make([]controller.Key, len(items))
	for i, it := range items {
		keys[i] = controller.Key{Namespace: it.Namespace(), Name: it.Name()}
	}
	return keys
}

func (c *counter) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	q, ok := c.quotas.Get(key.Namespace, key.Name)
	if !ok || q.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	resources, more := c.resources(ctx)
	list := func(gr schema.GroupResource) ([]runtime.Object, error) { return c.list(ctx, key.Namespace, gr, more) }
	pending, settled := c.ledger.Pending(key.Namespace, key.Name, c.seen, time.Now())
	status, err := counted(q, resources, c.devices, list, pending, time.Now())
	if err != nil {
		return controller.Again{}, fmt.Errorf("count for quota %s: %w", key, err)
	}
	// What came into sight while it was counted is counted twice.
	if now, still := c.ledger.Pending(key.Namespace, key.Name, c.seen, time.Now()); !settled || !still || !quota.Equal(pending, now) {
		return controller.Again{After: soon}, nil
	}
	again := controller.Again{After: resync}
	if len(pending) > 0 {
		again.After = settle
	}
	if !dirty(q, status) {
		return again, nil
	}
	next := q.DeepCopy()
	next.Status = status
	if _, err := quotas.UpdateStatus(ctx, c.client, next); err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("write the status of quota %s: %w", key, err)
	}
	return again, nil
}

// resources returns all that can be counted now; more are the kinds that came after the start, which have no view.
func (c *counter) resources(ctx context.Context) (all []schema.GroupResource, more map[schema.GroupResource]schema.GroupVersionResource) {
	more = map[schema.GroupResource]schema.GroupVersionResource{}
	for gr := range c.views {
		all = append(all, gr)
	}
	for _, k := range c.client.Kinds(ctx, nil) {
		gr := k.GroupVersionResource.GroupResource()
		if _, viewed := c.views[gr]; viewed || more[gr].Resource != "" || !countable(k.Namespaced, k.Verbs, gr) {
			continue
		}
		more[gr] = k.GroupVersionResource
		all = append(all, gr)
	}
	return all, more
}

func (c *counter) list(ctx context.Context, namespace string, gr schema.GroupResource, more map[schema.GroupResource]schema.GroupVersionResource) ([]runtime.Object, error) {
	var objects []client.Object
	if v, ok := c.views[gr]; ok {
		if !weighed[gr] { // counted without being decoded
			return make([]runtime.Object, len(v.Items(namespace, nil))), nil
		}
		objects = v.List(namespace, nil)
	} else {
		var err error
		if objects, err = c.client.List(ctx, more[gr], namespace, nil); err != nil {
			return nil, err
		}
	}
	out := make([]runtime.Object, len(objects))
	for i, o := range objects {
		out[i] = o
	}
	return out, nil
}

// weighed are the resources of which more than their number counts.
var weighed = map[schema.GroupResource]bool{{Resource: "pods"}: true, {Resource: "services"}: true, {Resource: "persistentvolumeclaims"}: true,
	{Group: "resource.k8s.io", Resource: "resourceclaims"}: true}

func (c *counter) seen(gr schema.GroupResource, namespace, name string) bool {
	v, ok := c.views[gr]
	if !ok {
		return true
	}
	_, ok = v.Get(namespace, name)
	return ok
}
