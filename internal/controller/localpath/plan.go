package localpath

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"clipper.dev/clipper/internal/localpath"
)

const (
	// finalizer keeps a volume until its directory is gone.
	finalizer = "clipper.dev/local-path"
	// annNode names a volume's node, annAsked the UID of the Node that has been asked to remove its directory.
	annNode  = "local-path.clipper.dev/node"
	annAsked = "local-path.clipper.dev/reclaim-asked"
)

func isOurs(pv *corev1.PersistentVolume) bool {
	return pv.Annotations[volumehelpers.AnnDynamicallyProvisioned] == localpath.Provisioner && pv.Spec.Local != nil
}

// wanted tells whether the controller is to make a volume for a claim.
func wanted(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) bool {
	return claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil && claim.Annotations[volumehelpers.AnnStorageProvisioner] == localpath.Provisioner &&
		class != nil && class.Provisioner == localpath.Provisioner
}

// volumeName is that of the volume made for a claim.
func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// refusal says why no node can have what a claim or its class asks for; nil if one can.
func refusal(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	single := func(m corev1.PersistentVolumeAccessMode) bool {
		return m == corev1.ReadWriteOnce || m == corev1.ReadWriteOncePod
	}
	mode := claim.Spec.VolumeMode
	switch {
	case claim.Annotations[volumehelpers.AnnSelectedNode] == "":
		return errors.New("a local volume is made for the node of its first pod: the storage class needs volumeBindingMode WaitForFirstConsumer")
	case claim.Spec.Selector != nil:
		return errors.New("claim.Spec.Selector is not supported")
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return errors.New("a local volume cannot be made from a data source")
	case mode != nil && *mode != corev1.PersistentVolumeFilesystem:
		return fmt.Errorf("volume mode %s is not supported: a local volume is a directory", *mode)
	case !slices.ContainsFunc(claim.Spec.AccessModes, single) || slices.ContainsFunc(claim.Spec.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool { return !single(m) }):
		return fmt.Errorf("access modes %v are not supported: a local volume is reached from one node alone", claim.Spec.AccessModes)
	case len(class.Parameters) > 0:
		return errors.New("the storage class has parameters: local volumes know none")
	case len(class.MountOptions) > 0:
		return errors.New("the storage class has mount options: a local volume is a directory, which has none of its own")
	}
	return nil
}

// volumeFor returns the volume for a claim on a node.
func volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) (*corev1.PersistentVolume, error) {
	folder, hostname := node.Annotations[localpath.Directory], node.Labels[corev1.LabelHostname]
	if folder == "" || hostname == "" {
		return nil, fmt.Errorf("node %s has announced no folder for local volumes", node.Name)
	}
	path, err := localpath.Path(folder, volumeName(claim))
	if err != nil {
		return nil, err
	}
	mode, policy := corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: volumeName(claim), Finalizers: []string{finalizer},
			Annotations: map[string]string{volumehelpers.AnnDynamicallyProvisioned: localpath.Provisioner, annNode: node.Name},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: claim.Spec.AccessModes, StorageClassName: class.Name, VolumeMode: &mode, PersistentVolumeReclaimPolicy: policy,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
		},
	}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{hostname}}},
	}}}}
	return pv, nil
}

// step is what is due for a volume.
type step int

const (
	nothing step = iota
	ask          // the node is to be asked to remove the directory
	mark         // the volume is to say that the node was asked
	finish       // the directory is gone: so shall be the volume
	release      // the volume shall go, its directory stays
)

// planVolume decides about a volume of ours. node is the one that has it; nil if it's no more, and with it the directory.
func planVolume(pv *corev1.PersistentVolume, node *corev1.Node) step {
	deleting := pv.DeletionTimestamp != nil
	switch {
	case pv.Status.Phase == corev1.VolumeBound || !deleting && pv.Status.Phase != corev1.VolumeReleased:
		return nothing
	case deleting && !slices.Contains(pv.Finalizers, finalizer):
		return nothing
	case pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
		if deleting {
			return release
		}
		return nothing
	case node == nil:
		return finish
	}
	asked := pv.Annotations[annAsked] != "" && types.UID(pv.Annotations[annAsked]) == node.UID
	listed := slices.Contains(localpath.Reclaimed(node), pv.Name)
	switch {
	case asked && listed:
		return nothing // it's the node's turn
	case asked:
		return finish
	case listed:
		return mark
	}
	return ask
}

// grows tells whether a bound claim asks for more than its volume or its status says.
func grows(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) bool {
	if claim.Status.Phase != corev1.ClaimBound || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return false
	}
	want := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	have := claim.Status.Capacity[corev1.ResourceStorage]
	return want.Cmp(have) > 0
}
