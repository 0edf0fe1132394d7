package attachdetach

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client      client.Client
	events      *events.Recorder
	pods        client.TypedView[*corev1.Pod]
	claims      client.TypedView[*corev1.PersistentVolumeClaim]
	volumes     client.TypedView[*corev1.PersistentVolume]
	nodes       client.TypedView[*corev1.Node]
	drivers     client.TypedView[*storagev1.CSIDriver]
	attachments client.TypedView[*storagev1.VolumeAttachment]
	metrics     *collector

	mu    sync.Mutex
	since map[string]map[string]time.Time // by node and attachment: since when it is to go
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("attachdetach-controller"), since: map[string]map[string]time.Time{}, metrics: newCollector()}
	if err := client.Open(ctx, env.Client,
		client.Pods.Into(&r.pods), client.PersistentVolumeClaims.Into(&r.claims), client.PersistentVolumes.Into(&r.volumes),
		client.Nodes.Into(&r.nodes), client.CSIDrivers.Into(&r.drivers), client.VolumeAttachments.Into(&r.attachments),
	); err != nil {
		return controller.Controller{}, err
	}
	r.metrics.attachments = r.attachments
	if err := env.Register(r.metrics); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "attachdetach",
		Inputs: []controller.Input{
			{View: r.pods.View, Keys: ofPod},
			{View: r.claims.View, Keys: r.ofClaim},
			{View: r.volumes.View},
			{View: r.nodes.View, Keys: ofNode},
			{View: r.drivers.View, Keys: r.ofDriver},
			{View: r.attachments.View, Keys: r.ofAttachment},
		},
		Outputs:   []string{"volumeattachments", "nodes/status"},
		Reconcile: r.reconcile,
	}, nil
}

func key(node string) controller.Key { return controller.Key{Name: node} }

// claimNames lists the claims of a pod, those of its ephemeral volumes too.
func claimNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return out
}

// ofPod maps a pod that uses claims to its node.
func ofPod(c client.Change) []controller.Key {
	it := c.New
	if it == nil {
		it = c.Old
	}
	if it.Field("spec.nodeName") == "" {
		return nil
	}
	pod := it.Object().(*corev1.Pod)
	if len(claimNames(pod)) == 0 || c.Old != nil && c.New != nil && c.Old.Field("spec.nodeName") != "" && terminated(c.Old.Object().(*corev1.Pod)) == terminated(pod) {
		return nil
	}
	return []controller.Key{key(pod.Spec.NodeName)}
}

// ofClaim maps a claim to the nodes of the pods that use it.
func (r *reconciler) ofClaim(c client.Change) []controller.Key {
	self := controller.Self(c)[0]
	return r.nodesOf(self.Namespace, self.Name)
}

func (r *reconciler) nodesOf(namespace, claim string) []controller.Key {
	var keys []controller.Key
	for _, pod := range r.pods.List(namespace, nil) {
		if pod.Spec.NodeName != "" && slices.Contains(claimNames(pod), claim) {
			keys = append(keys, key(pod.Spec.NodeName))
		}
	}
	return keys
}

// ofNode maps a node when something has changed that decides about attachments.
func ofNode(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil {
		before, now := c.Old.Object().(*corev1.Node), c.New.Object().(*corev1.Node)
		if slices.Equal(before.Status.VolumesInUse, now.Status.VolumesInUse) && slices.Equal(before.Status.VolumesAttached, now.Status.VolumesAttached) &&
			outOfService(before) == outOfService(now) && ready(before) == ready(now) {
			return nil
		}
	}
	return controller.Self(c)
}

// ofDriver maps a driver to all nodes: whether its volumes are attached may have changed.
func (r *reconciler) ofDriver(client.Change) []controller.Key {
	var keys []controller.Key
	for _, n := range r.nodes.View.Items("", nil) {
		keys = append(keys, key(n.Name()))
	}
	return keys
}

// ofAttachment maps an attachment to its node, and when it has gone to the nodes that wait for its volume.
func (r *reconciler) ofAttachment(c client.Change) []controller.Key {
	it := c.New
	if it == nil {
		it = c.Old
	}
	a := it.Object().(*storagev1.VolumeAttachment)
	keys := []controller.Key{key(a.Spec.NodeName)}
	if c.New != nil || a.Spec.Source.PersistentVolumeName == nil {
		return keys
	}
	if v, ok := r.volumes.Get("", *a.Spec.Source.PersistentVolumeName); ok && v.Spec.ClaimRef != nil {
		keys = append(keys, r.nodesOf(v.Spec.ClaimRef.Namespace, v.Spec.ClaimRef.Name)...)
	}
	return keys
}

// volumeOf returns the volume of a pod's claim if it is one of a driver.
func (r *reconciler) volumeOf(pod *corev1.Pod, claimName string) *corev1.PersistentVolume {
	claim, ok := r.claims.Get(pod.Namespace, claimName)
	if !ok || claim.Spec.VolumeName == "" {
		return nil
	}
	v, ok := r.volumes.Get("", claim.Spec.VolumeName)
	if !ok || v.Spec.CSI == nil || v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID != claim.UID {
		return nil
	}
	return v
}

// attaches tells whether a driver's volumes have to be attached.
func (r *reconciler) attaches(driver string) bool {
	d, ok := r.drivers.Get("", driver)
	return !ok || d.Spec.AttachRequired == nil || *d.Spec.AttachRequired
}

// uses lists what the pods of a node want attached.
func (r *reconciler) uses(node string) map[string]*use {
	out := map[string]*use{}
	d := demand{attach: map[string]int{}, inUse: map[string]int{}}
	for _, pod := range r.pods.ByIndex("spec.nodeName", node) {
		for _, name := range claimNames(pod) {
			v := r.volumeOf(pod, name)
			if v == nil {
				continue
			}
			plugin := pluginOf(v.Spec.CSI.Driver)
			d.inUse[plugin]++
			if terminated(pod) || !r.attaches(v.Spec.CSI.Driver) {
				continue
			}
			if out[v.Name] == nil {
				out[v.Name] = &use{volume: v}
				d.attach[plugin]++
			}
			out[v.Name].pods = append(out[v.Name].pods, pod)
		}
	}
	r.metrics.want(node, d)
	return out
}

// podsElsewhere lists the pods that use a volume on nodes other than one.
func (r *reconciler) podsElsewhere(node string, v *corev1.PersistentVolume) []*corev1.Pod {
	if v.Spec.ClaimRef == nil {
		return nil
	}
	var out []*corev1.Pod
	for _, pod := range r.pods.List(v.Spec.ClaimRef.Namespace, nil) {
		if pod.Spec.NodeName != "" && pod.Spec.NodeName != node && !terminated(pod) && slices.Contains(claimNames(pod), v.Spec.ClaimRef.Name) {
			out = append(out, pod)
		}
	}
	return out
}

func (r *reconciler) reconcile(ctx context.Context, k controller.Key) (controller.Again, error) {
	node, exists := r.nodes.Get("", k.Name)
	if !exists {
		node = nil
	}
	r.mu.Lock()
	since := r.since[k.Name]
	r.mu.Unlock()
	p := makePlan(input{
		node: node, name: k.Name, uses: r.uses(k.Name), attachments: r.attachments.List("", nil),
		volume: func(name string) *corev1.PersistentVolume {
			v, _ := r.volumes.Get("", name)
			return v
		},
		podsElsewhere: func(v *corev1.PersistentVolume) []*corev1.Pod { return r.podsElsewhere(k.Name, v) },
		since:         since, now: time.Now(),
	})
	r.remember(k.Name, p.waiting)
	return controller.Again{After: p.again}, r.apply(ctx, node, p)
}

func (r *reconciler) remember(node string, waiting map[string]time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(waiting) == 0 {
		delete(r.since, node)
		return
	}
	r.since[node] = waiting
}

// apply carries a plan out. The node is told that a volume is no longer safe to mount before it's detached.
func (r *reconciler) apply(ctx context.Context, node *corev1.Node, p plan) error {
	if node != nil && !equality.Semantic.DeepEqual(node.Status.VolumesAttached, p.attached) {
		if err := r.tellNode(ctx, node.Name, p.attached); err != nil {
			return err
		}
	}
	for _, n := range p.notices {
		r.events.Event(n.pod, n.kind, n.reason, n.message)
	}
	for _, a := range p.detach {
		err := client.VolumeAttachments.Delete(ctx, r.client, "", a.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &a.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("detach %s from node %s: %w", *a.Spec.Source.PersistentVolumeName, a.Spec.NodeName, err)
		}
		if reason := p.forced[a.Name]; reason != "" && err == nil {
			r.metrics.forced.WithLabelValues(reason).Inc()
		}
	}
	for _, a := range p.attach {
		if _, err := client.VolumeAttachments.Create(ctx, r.client, a); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("attach %s to node %s: %w", *a.Spec.Source.PersistentVolumeName, a.Spec.NodeName, err)
		}
	}
	return nil
}

func (r *reconciler) tellNode(ctx context.Context, node string, attached []corev1.AttachedVolume) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesAttached": attached}})
	if err != nil {
		return err
	}
	_, err = client.Nodes.Patch(ctx, r.client, "", node, "status", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("tell node %s what is attached: %w", node, err)
	}
	return nil
}
