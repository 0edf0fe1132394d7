package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

// Config says what is given out.
type Config struct {
	// ClusterCIDRs are the pods' ranges, one or one of each family.
	ClusterCIDRs []netip.Prefix
	// NodeBits is the prefix length of a node's range; 0 is 24 for IPv4 and 64 for IPv6.
	NodeBits int
}

type reconciler struct {
	client client.Client
	events *events.Recorder
	nodes  client.TypedView[*corev1.Node]

	mu     sync.Mutex
	loaded bool
	pools  []*pool
}

// Constructor makes the controller.
func Constructor(cfg Config) controller.Constructor {
	return controller.Constructor{
		Name: "nodeipam",
		User: "system:serviceaccount:kube-system:node-controller",
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			return newController(ctx, env, cfg)
		},
	}
}

func newController(ctx context.Context, env controller.Env, cfg Config) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("cidrAllocator")}
	m := newMetrics()
	if err := m.register(&env); err != nil {
		return controller.Controller{}, err
	}
	for _, cidr := range cfg.ClusterCIDRs {
		p, err := newPool(cidr, cfg.NodeBits, m)
		if err != nil {
			return controller.Controller{}, err
		}
		r.pools = append(r.pools, p)
	}
	if err := client.Open(ctx, env.Client, client.Nodes.Into(&r.nodes)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:      "node_ipam_controller",
		Workers:   1, // allocations of two nodes at a time would have to know of each other
		Inputs:    []controller.Input{{View: r.nodes.View, Keys: lacking}},
		Outputs:   []string{"nodes"},
		Reconcile: r.reconcile,
	}, nil
}

// lacking maps nodes that have come or gone: others have their range.
func lacking(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil && c.Old.UID() == c.New.UID() && len(c.New.Object().(*corev1.Node).Spec.PodCIDRs) > 0 {
		return nil
	}
	return controller.Self(c)
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load()
	node, ok := r.nodes.Get("", key.Name)
	if !ok {
		for _, p := range r.pools {
			p.release(key.Name)
		}
		return controller.Again{}, nil
	}
	if len(node.Spec.PodCIDRs) > 0 {
		r.occupy(node)
		return controller.Again{}, nil
	}
	var ranges []string
	for _, p := range r.pools {
		one, ok := p.allocate(node.Name)
		if !ok {
			r.events.Event(&corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}, corev1.EventTypeNormal, "CIDRNotAvailable",
				fmt.Sprintf("Node %s status is now: CIDRNotAvailable", node.Name))
			return controller.Again{}, fmt.Errorf("give node %s a range: %s is used up", node.Name, p.cidr)
		}
		ranges = append(ranges, one.String())
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID}, "spec": map[string]any{"podCIDR": ranges[0], "podCIDRs": ranges}})
	if err != nil {
		return controller.Again{}, err
	}
	_, err = client.Nodes.Patch(ctx, r.client, "", node.Name, "", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return controller.Again{}, nil
	}
	return controller.Again{}, err
}

// load notes all ranges that are in use before the first is given out.
func (r *reconciler) load() {
	if r.loaded {
		return
	}
	r.loaded = true
	for _, node := range r.nodes.List("", nil) {
		r.occupy(node)
	}
}

func (r *reconciler) occupy(node *corev1.Node) {
	for _, text := range node.Spec.PodCIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			continue // validation lets no such range in
		}
		for _, p := range r.pools {
			p.occupy(node.Name, prefix.Masked())
		}
	}
}
