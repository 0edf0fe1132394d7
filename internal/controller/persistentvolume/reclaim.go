package persistentvolume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// reclaim is what the control plane itself does to the contents of a volume that was released.
type reclaim int

const (
	nothing reclaim = iota
	recycle         // empty it by a pod and make it available again
	remove          // remove it, and the volume
)

// reclaimable tells what is to be done to a released volume. Those that somebody else has made are theirs to delete.
func reclaimable(volume *corev1.PersistentVolume) reclaim {
	switch volume.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRecycle:
		if volume.Spec.HostPath != nil || volume.Spec.NFS != nil {
			return recycle
		}
	case corev1.PersistentVolumeReclaimDelete:
		if volume.Spec.HostPath != nil && !external(volume) {
			return remove
		}
	}
	return nothing
}

// external tells whether a volume was made by a provisioner outside of the control plane.
func external(volume *corev1.PersistentVolume) bool {
	provisioner, made := volume.Annotations[volumehelpers.AnnDynamicallyProvisioned]
	return made && !strings.HasPrefix(provisioner, "kubernetes.io/") || volume.Annotations[volumehelpers.AnnMigratedTo] != ""
}

// recyclerPrefix begins the name of the pod that empties a volume.
const recyclerPrefix = "recycler-for-"

// ofRecycler maps the pod that empties a volume to that.
func ofRecycler(c client.Change) []controller.Key {
	key := controller.Self(c)[0]
	name, ok := strings.CutPrefix(key.Name, recyclerPrefix)
	if !ok || key.Namespace != metav1.NamespaceDefault {
		return nil
	}
	return []controller.Key{{Name: name}}
}

func (r *reconciler) reclaim(ctx context.Context, name string, how reclaim) error {
	if how == nothing {
		return nil
	}
	volume, err := client.PersistentVolumes.Get(ctx, r.client, "", name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read volume %s: %w", name, err)
	}
	if volume.DeletionTimestamp != nil || volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID == "" {
		return nil // it's on its way, or free
	}
	if how == remove {
		err := r.remove(ctx, volume)
		if err != nil {
			r.metrics.failedDelete(volume)
		}
		return err
	}
	return r.recycle(ctx, volume)
}

// fail marks a volume as one that couldn't be reclaimed.
func (r *reconciler) fail(ctx context.Context, volume *corev1.PersistentVolume, reason string, cause error) error {
	changed, err := r.setVolumePhase(ctx, volume, corev1.VolumeFailed, cause.Error())
	if err != nil {
		return err
	}
	if changed {
		r.events.Event(volume, corev1.EventTypeWarning, reason, cause.Error())
	}
	return fmt.Errorf("volume %s: %w", volume.Name, cause)
}

const removableRoot = "/tmp"

// remove deletes a directory of this machine and the volume that it was: of use on a single machine, where it is for tests. Nothing outside of
// removableRoot is touched, whatever links there are.
func (r *reconciler) remove(ctx context.Context, volume *corev1.PersistentVolume) error {
	if err := removeBelow(removableRoot, volume.Spec.HostPath.Path); err != nil {
		return r.fail(ctx, volume, failedDelete, err)
	}
	err := client.PersistentVolumes.Delete(ctx, r.client, "", volume.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &volume.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete volume %s: %w", volume.Name, err)
	}
	return nil
}

func removeBelow(root, path string) error {
	below, err := filepath.Rel(root, filepath.Clean(path))
	if err != nil || below == "." || !filepath.IsLocal(below) {
		return fmt.Errorf("host_path deleter only supports /tmp/.+ but received provided %s", path)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.RemoveAll(below)
}

// recycle takes the emptying of a volume one step further.
func (r *reconciler) recycle(ctx context.Context, volume *corev1.PersistentVolume) error {
	pod, err := client.Pods.Get(ctx, r.client, metav1.NamespaceDefault, recyclerPrefix+volume.Name)
	switch {
	case apierrors.IsNotFound(err):
		return r.beginRecycling(ctx, volume)
	case err != nil:
		return fmt.Errorf("read the pod that empties volume %s: %w", volume.Name, err)
	case pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
		return nil // its next change brings the key again
	}
	if err := client.Pods.Delete(ctx, r.client, pod.Namespace, pod.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the pod that has emptied volume %s: %w", volume.Name, err)
	}
	if pod.Status.Phase == corev1.PodFailed {
		message := pod.Status.Message
		if message == "" {
			message = "pod failed, pod.Status.Message unknown"
		}
		return r.fail(ctx, volume, "VolumeFailedRecycle", fmt.Errorf("Recycle failed: failed to recycle volume: %s", message))
	}
	r.events.Event(volume, corev1.EventTypeNormal, "VolumeRecycled", "Volume recycled")
	free := volume.DeepCopy()
	free.Spec.ClaimRef = nil
	delete(free.Annotations, volumehelpers.AnnBoundByController)
	if volume, err = client.PersistentVolumes.Update(ctx, r.client, free); err != nil {
		return fmt.Errorf("free volume %s: %w", free.Name, err)
	}
	_, err = r.setVolumePhase(ctx, volume, corev1.VolumeAvailable, "")
	return err
}

func (r *reconciler) beginRecycling(ctx context.Context, volume *corev1.PersistentVolume) error {
	ref := volume.Spec.ClaimRef
	var users []string
	if _, anew := r.claims.Get(ref.Namespace, ref.Name); !anew { // pods of a new claim by the same name use another volume
		for _, pod := range r.pods.List(ref.Namespace, nil) {
			if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
				return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == ref.Name
			}) {
				users = append(users, pod.Namespace+"/"+pod.Name)
			}
		}
	}
	if len(users) > 0 {
		r.events.Event(volume, corev1.EventTypeNormal, "VolumeFailedRecycle", "Volume is used by pods: "+strings.Join(users, ","))
		return fmt.Errorf("volume %s is used by pods: %s", volume.Name, strings.Join(users, ","))
	}
	if _, err := client.Pods.Create(ctx, r.client, recycler(volume)); err != nil && !apierrors.IsAlreadyExists(err) {
		return r.fail(ctx, volume, "VolumeFailedRecycle", fmt.Errorf("Recycle failed: unexpected error creating recycler pod:  %w", err))
	}
	return nil
}

const (
	recyclerImage   = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.6"
	recyclerCommand = `test -e /scrub && find /scrub -mindepth 1 -delete && test -z "$(ls -A /scrub)" || exit 1`
)

// recycler returns the pod that empties a volume. It has half a minute for each Gi, and at least a minute, over the network five.
func recycler(volume *corev1.PersistentVolume) *corev1.Pod {
	size := volume.Spec.Capacity[corev1.ResourceStorage]
	seconds := max(30*(size.Value()>>30), 60)
	source := corev1.VolumeSource{HostPath: volume.Spec.HostPath}
	if volume.Spec.NFS != nil {
		seconds, source = max(seconds, 300), corev1.VolumeSource{NFS: volume.Spec.NFS}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: recyclerPrefix + volume.Name},
		Spec: corev1.PodSpec{
			ActiveDeadlineSeconds: &seconds, RestartPolicy: corev1.RestartPolicyNever,
			Volumes: []corev1.Volume{{Name: "vol", VolumeSource: source}},
			Containers: []corev1.Container{{
				Name: "pv-recycler", Image: recyclerImage, Command: []string{"/bin/sh"}, Args: []string{"-c", recyclerCommand},
				VolumeMounts: []corev1.VolumeMount{{Name: "vol", MountPath: "/scrub"}},
			}},
		},
	}
}
