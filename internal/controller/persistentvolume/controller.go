package persistentvolume

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
)

type reconciler struct {
	client  client.Client
	events  *events.Recorder
	volumes client.TypedView[*corev1.PersistentVolume]
	claims  client.TypedView[*corev1.PersistentVolumeClaim]
	classes client.TypedView[*storagev1.StorageClass]
	pods    client.TypedView[*corev1.Pod]
	metrics *volumeCollector
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("persistentvolume-controller")}
	if err := client.Open(ctx, env.Client,
		client.PersistentVolumes.Into(&r.volumes), client.PersistentVolumeClaims.Into(&r.claims),
		client.StorageClasses.Into(&r.classes), client.Pods.Into(&r.pods),
	); err != nil {
		return controller.Controller{}, err
	}
	r.metrics = newVolumeCollector(r.volumes, r.claims)
	if err := env.Register(r.metrics); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "persistentvolume",
		Inputs: []controller.Input{
			{View: r.volumes.View, Keys: r.ofVolume},
			{View: r.claims.View, Keys: r.ofClaim},
			{View: r.classes.View, Keys: r.ofClass},
			{View: r.pods.View, Keys: ofRecycler},
		},
		Outputs:   []string{"persistentvolumes", "persistentvolumes/status", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods"},
		Workers:   1, // two claims never choose the same volume
		Reconcile: r.reconcile,
	}, nil
}

func keyOf(claim *corev1.PersistentVolumeClaim) controller.Key {
	return controller.Key{Namespace: claim.Namespace, Name: claim.Name}
}

// ofVolume maps a volume to itself, the claim that it names, the claims that name it, and those that it may fit.
func (r *reconciler) ofVolume(c client.Change) []controller.Key {
	keys := controller.Self(c)
	it := c.New
	if it == nil {
		it = c.Old
	}
	volume := it.Object().(*corev1.PersistentVolume)
	class := volumehelpers.GetPersistentVolumeClass(volume)
	ref := volume.Spec.ClaimRef
	if ref != nil {
		keys = append(keys, controller.Key{Namespace: ref.Namespace, Name: ref.Name})
	}
	for _, claim := range r.claims.List("", nil) {
		free := claim.Spec.VolumeName == "" && ref == nil && c.New != nil && volumehelpers.GetPersistentVolumeClaimClass(claim) == class
		if free || claim.Spec.VolumeName == volume.Name {
			keys = append(keys, keyOf(claim))
		}
	}
	return keys
}

// ofClaim maps a claim to itself, the volume that it names, and if it has gone all volumes that name it.
func (r *reconciler) ofClaim(c client.Change) []controller.Key {
	keys := controller.Self(c)
	if c.New != nil {
		if name := c.New.Object().(*corev1.PersistentVolumeClaim).Spec.VolumeName; name != "" {
			keys = append(keys, controller.Key{Name: name})
		}
		return keys
	}
	for _, volume := range r.volumes.List("", nil) {
		if ref := volume.Spec.ClaimRef; ref != nil && ref.Namespace == keys[0].Namespace && ref.Name == keys[0].Name {
			keys = append(keys, controller.Key{Name: volume.Name})
		}
	}
	return keys
}

// ofClass maps a class to the claims that wait for it, or for any class.
func (r *reconciler) ofClass(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	var keys []controller.Key
	for _, claim := range r.claims.List("", nil) {
		class := volumehelpers.GetPersistentVolumeClaimClass(claim)
		if claim.Spec.VolumeName == "" && (class == c.New.Name() || !volumehelpers.PersistentVolumeClaimHasClass(claim)) {
			keys = append(keys, keyOf(claim))
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if key.Namespace == "" {
		return controller.Again{}, r.syncVolume(ctx, key.Name)
	}
	claim, ok := r.claims.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	return controller.Again{}, r.syncClaim(ctx, claim)
}

func (r *reconciler) syncClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	step, err := planClaim(claim, r.world(claim))
	say := step.notice != nil && !(step.onChange && claim.Status.Phase == step.phase)
	if say {
		r.events.Eventf(claim, step.notice.kind, step.notice.reason, "%s", step.notice.message)
	}
	switch {
	case err != nil:
		return err
	case step.bind != nil:
		return r.bind(ctx, step.bind, claim)
	case step.class != "":
		err := r.change(ctx, claim, func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &step.class })
		r.metrics.assigned(err)
		return err
	case step.provisioner != "":
		if claim.Annotations[volumehelpers.AnnStorageProvisioner] == step.provisioner && claim.Annotations[volumehelpers.AnnBetaStorageProvisioner] == step.provisioner {
			return nil
		}
		return r.change(ctx, claim, func(c *corev1.PersistentVolumeClaim) {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, volumehelpers.AnnBetaStorageProvisioner, step.provisioner)
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, volumehelpers.AnnStorageProvisioner, step.provisioner)
		})
	}
	return r.setClaimStatus(ctx, claim, claimStatus(claim, step.phase, nil))
}

func (r *reconciler) change(ctx context.Context, claim *corev1.PersistentVolumeClaim, edit func(*corev1.PersistentVolumeClaim)) error {
	changed := claim.DeepCopy()
	edit(changed)
	if _, err := client.PersistentVolumeClaims.Update(ctx, r.client, changed); err != nil {
		return fmt.Errorf("change claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

func (r *reconciler) syncVolume(ctx context.Context, name string) error {
	volume, ok := r.volumes.Get("", name)
	if !ok {
		return nil
	}
	claim, err := r.claimOf(ctx, volume)
	if err != nil {
		return err
	}
	step := planVolume(volume, claim)
	if step.unbind {
		if volume, err = client.PersistentVolumes.Update(ctx, r.client, unbound(volume)); err != nil {
			return fmt.Errorf("unbind volume %s: %w", name, err)
		}
	}
	changed := step.phase == ""
	if step.phase != "" {
		if changed, err = r.setVolumePhase(ctx, volume, step.phase, step.message); err != nil {
			return err
		}
	}
	if step.notice != nil && changed {
		r.events.Eventf(volume, step.notice.kind, step.notice.reason, "%s", step.notice.message)
		if step.notice.reason == failedDelete {
			r.metrics.failedDelete(volume)
		}
	}
	if step.claimNotice != nil {
		r.events.Eventf(claim, step.claimNotice.kind, step.claimNotice.reason, "%s", step.claimNotice.message)
	}
	return r.reclaim(ctx, name, step.reclaim)
}

// claimOf returns the claim that a volume names; nil if it's gone. A volume is given up only on the API's word.
func (r *reconciler) claimOf(ctx context.Context, volume *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := volume.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil, nil
	}
	if claim, ok := r.claims.Get(ref.Namespace, ref.Name); ok && claim.UID == ref.UID {
		return claim, nil
	}
	claim, err := client.PersistentVolumeClaims.Get(ctx, r.client, ref.Namespace, ref.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the claim of volume %s: %w", volume.Name, err)
	}
	return claim, nil
}

func (r *reconciler) world(claim *corev1.PersistentVolumeClaim) world {
	return world{
		volume: func(name string) *corev1.PersistentVolume {
			volume, _ := r.volumes.Get("", name)
			return volume
		},
		volumes: func() []*corev1.PersistentVolume { return r.volumes.List("", nil) },
		class: func(name string) *storagev1.StorageClass {
			class, _ := r.classes.Get("", name)
			return class
		},
		defaultClass: func() string { return defaultClass(r.classes.List("", nil)) },
		waitingPods: func() []string {
			var names []string
			for _, pod := range r.pods.List(claim.Namespace, nil) {
				if pod.Spec.NodeName == "" && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
					return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name || v.Ephemeral != nil && pod.Name+"-"+v.Name == claim.Name
				}) {
					names = append(names, pod.Name)
				}
			}
			return names
		},
	}
}

// defaultClass returns the class for claims that ask for none: the newest that is marked so, of equally old ones the first by name.
func defaultClass(classes []*storagev1.StorageClass) string {
	var best *storagev1.StorageClass
	for _, c := range classes {
		marked := c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true"
		if marked && (best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp)) {
			best = c
		}
	}
	if best == nil {
		return ""
	}
	return best.Name
}
