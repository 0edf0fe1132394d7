package localpath

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/localpath"
)

type reconciler struct {
	client  client.Client
	events  *events.Recorder
	claims  client.TypedView[*corev1.PersistentVolumeClaim]
	volumes client.TypedView[*corev1.PersistentVolume]
	classes client.TypedView[*storagev1.StorageClass]
	nodes   client.TypedView[*corev1.Node]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events(localpath.Provisioner)}
	if err := client.Open(ctx, env.Client,
		client.PersistentVolumeClaims.Into(&r.claims), client.PersistentVolumes.Into(&r.volumes),
		client.StorageClasses.Into(&r.classes), client.Nodes.Into(&r.nodes),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "local_path",
		Inputs: []controller.Input{
			{View: r.claims.View, Keys: controller.Self},
			{View: r.volumes.View, Keys: controller.Self},
			{View: r.classes.View},
			{View: r.nodes.View, Keys: r.ofNode},
		},
		Outputs:   []string{"persistentvolumes", "persistentvolumeclaims", "persistentvolumeclaims/status", "nodes"},
		Workers:   1,
		Reconcile: r.reconcile,
	}, nil
}

// ofNode maps a node that has done its part, or is no more, to the volumes that wait for that.
func (r *reconciler) ofNode(c client.Change) []controller.Key {
	if c.New != nil && c.Old != nil && slices.Equal(localpath.Reclaimed(c.Old.Object().(*corev1.Node)), localpath.Reclaimed(c.New.Object().(*corev1.Node))) {
		return nil
	}
	name := controller.Self(c)[0].Name
	var keys []controller.Key
	for _, pv := range r.volumes.List("", nil) {
		if isOurs(pv) && pv.Annotations[annNode] == name && pv.Status.Phase != corev1.VolumeBound {
			keys = append(keys, controller.Key{Name: pv.Name})
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if key.Namespace == "" {
		if pv, ok := r.volumes.Get("", key.Name); ok && isOurs(pv) {
			return controller.Again{}, r.reclaim(ctx, pv)
		}
		return controller.Again{}, nil
	}
	claim, ok := r.claims.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	if claim.Spec.VolumeName == "" {
		return controller.Again{}, r.provision(ctx, claim)
	}
	if pv, ok := r.volumes.Get("", claim.Spec.VolumeName); ok && isOurs(pv) && grows(claim, pv) {
		return controller.Again{}, r.grow(ctx, claim, pv)
	}
	return controller.Again{}, nil
}

// provision makes the volume of a claim whose first pod has been given a node.
func (r *reconciler) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class, _ := r.classes.Get("", volumehelpers.GetPersistentVolumeClaimClass(claim))
	if _, made := r.volumes.Get("", volumeName(claim)); made || !wanted(claim, class) {
		return nil
	}
	if err := refusal(claim, class); err != nil {
		r.failed(claim, err)
		return nil // only a change of the claim helps
	}
	selected := claim.Annotations[volumehelpers.AnnSelectedNode]
	node, ok := r.nodes.Get("", selected)
	if !ok {
		return r.reschedule(ctx, claim, fmt.Errorf("node %s is no more", selected))
	}
	pv, err := volumeFor(claim, class, node)
	if err != nil {
		return r.reschedule(ctx, claim, err)
	}
	if _, err := client.PersistentVolumes.Create(ctx, r.client, pv); err != nil && !apierrors.IsAlreadyExists(err) {
		r.failed(claim, err)
		return fmt.Errorf("create volume %s: %w", pv.Name, err)
	}
	r.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", pv.Name)
	return nil
}

func (r *reconciler) failed(claim *corev1.PersistentVolumeClaim, err error) {
	r.events.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", volumehelpers.GetPersistentVolumeClaimClass(claim), err)
}

// reschedule gives a claim back to the scheduler, which may find another node.
func (r *reconciler) reschedule(ctx context.Context, claim *corev1.PersistentVolumeClaim, why error) error {
	r.failed(claim, why)
	changed := claim.DeepCopy()
	delete(changed.Annotations, volumehelpers.AnnSelectedNode)
	if _, err := client.PersistentVolumeClaims.Update(ctx, r.client, changed); err != nil {
		return fmt.Errorf("give claim %s/%s back to the scheduler: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// grow grants a claim the size that it asks for.
func (r *reconciler) grow(ctx context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if have := pv.Spec.Capacity[corev1.ResourceStorage]; have.Cmp(size) < 0 {
		changed := pv.DeepCopy()
		changed.Spec.Capacity[corev1.ResourceStorage] = size
		if _, err := client.PersistentVolumes.Update(ctx, r.client, changed); err != nil {
			return fmt.Errorf("grow volume %s: %w", pv.Name, err)
		}
	}
	changed := claim.DeepCopy()
	if changed.Status.Capacity == nil {
		changed.Status.Capacity = corev1.ResourceList{}
	}
	changed.Status.Capacity[corev1.ResourceStorage] = size
	if _, err := client.PersistentVolumeClaims.UpdateStatus(ctx, r.client, changed); err != nil {
		return fmt.Errorf("grow claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	r.events.Event(claim, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	return nil
}

// reclaim takes a volume that nobody uses any more one step further.
func (r *reconciler) reclaim(ctx context.Context, pv *corev1.PersistentVolume) error {
	node, _ := r.nodes.Get("", pv.Annotations[annNode])
	switch planVolume(pv, node) {
	case ask:
		changed := node.DeepCopy()
		localpath.SetReclaimed(changed, append(localpath.Reclaimed(node), pv.Name))
		if _, err := client.Nodes.Update(ctx, r.client, changed); err != nil {
			return fmt.Errorf("ask node %s to remove volume %s: %w", node.Name, pv.Name, err)
		}
		return r.mark(ctx, pv, node)
	case mark:
		return r.mark(ctx, pv, node)
	case finish, release:
		return r.remove(ctx, pv)
	}
	return nil
}

func (r *reconciler) mark(ctx context.Context, pv *corev1.PersistentVolume, node *corev1.Node) error {
	changed := pv.DeepCopy()
	metav1.SetMetaDataAnnotation(&changed.ObjectMeta, annAsked, string(node.UID))
	if _, err := client.PersistentVolumes.Update(ctx, r.client, changed); err != nil {
		return fmt.Errorf("note that volume %s is being removed: %w", pv.Name, err)
	}
	return nil
}

// remove deletes a volume, and lets it go.
func (r *reconciler) remove(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.DeletionTimestamp == nil {
		err := client.PersistentVolumes.Delete(ctx, r.client, "", pv.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete volume %s: %w", pv.Name, err)
		}
		return nil // its deletion brings the key again
	}
	changed := pv.DeepCopy()
	changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == finalizer })
	if _, err := client.PersistentVolumes.Update(ctx, r.client, changed); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("let volume %s go: %w", pv.Name, err)
	}
	return nil
}
