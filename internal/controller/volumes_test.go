package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

func TestAClaimLivesOnTheRealEngine(t *testing.T) {
	c := newCluster(t)
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	create(c, client.PersistentVolumes, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, StorageClassName: "manual", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/disk"}}}})
	create(c, client.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{ObjectMeta: meta("data"), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, StorageClassName: new("manual"), Resources: corev1.VolumeResourceRequirements{Requests: size}}})
	phase := func(want corev1.PersistentVolumePhase) func() bool {
		return func() bool {
			volume, err := client.PersistentVolumes.Get(c.ctx, c, "", "disk")
			return err == nil && volume.Status.Phase == want
		}
	}
	eventually(c, client.PersistentVolumes, "a bound volume", phase(corev1.VolumeBound))
	eventually(c, client.PersistentVolumeClaims, "a bound claim", func() bool {
		claim, err := client.PersistentVolumeClaims.Get(c.ctx, c, "default", "data")
		return err == nil && claim.Status.Phase == corev1.ClaimBound && claim.Spec.VolumeName == "disk" && claim.Status.Capacity.Storage().Equal(size[corev1.ResourceStorage])
	})
	if err := client.PersistentVolumeClaims.Delete(c.ctx, c, "default", "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.PersistentVolumes, "a released volume", phase(corev1.VolumeReleased))
	if err := client.PersistentVolumes.Delete(c.ctx, c, "", "disk", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.PersistentVolumes, "no volume", func() bool {
		_, err := client.PersistentVolumes.Get(c.ctx, c, "", "disk")
		return apierrors.IsNotFound(err)
	})
}

func TestAnAttributesClassGoesOnceNothingUsesIt(t *testing.T) {
	c := newCluster(t)
	create(c, client.VolumeAttributesClasses, &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, DriverName: "disks.example.com", Parameters: map[string]string{"iops": "9"}})
	if err := client.VolumeAttributesClasses.Delete(c.ctx, c, "", "gold", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.VolumeAttributesClasses, "no class", func() bool {
		_, err := client.VolumeAttributesClasses.Get(c.ctx, c, "", "gold")
		return apierrors.IsNotFound(err)
	})
}

func TestAPodsEphemeralVolumeGetsAClaimFromTheDefaultClass(t *testing.T) {
	c := newCluster(t)
	later := storagev1.VolumeBindingWaitForFirstConsumer
	create(c, client.StorageClasses, &storagev1.StorageClass{Provisioner: "disks.example.com", VolumeBindingMode: &later,
		ObjectMeta: metav1.ObjectMeta{Name: "std", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}})
	create(c, client.Pods, &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "demo:v1", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}}}}},
	}})
	eventually(c, client.PersistentVolumeClaims, "a claim", func() bool {
		claim, err := client.PersistentVolumeClaims.Get(c.ctx, c, "default", "p-data")
		return err == nil && claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName == "std" && claim.Status.Phase == corev1.ClaimPending
	})
}
