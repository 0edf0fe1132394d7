// Package localpath says how the built-in provisioner of local volumes and the nodes that hold them speak to each other.
//
// A volume is a PersistentVolume of type local, whose directory lies in one folder of one node. The node makes the directory when it first
// mounts the volume, and nobody but the node touches it. Both sides write the Node object alone, as each may under its own credentials:
//
//	the node:        Directory = /var/lib/clipper/volumes    where its volumes are; a node without it gets none
//	the provisioner: Reclaim   = pvc-1,pvc-2                  these are released and shall go
//	the node:        Reclaim   = pvc-2                        pvc-1 has gone
//
// So what the node says no more is done, and a request survives the restart of either side.
package localpath

import (
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

const (
	// Provisioner is the name by which storage classes ask for local volumes.
	Provisioner = "clipper.dev/local-path"
	// Directory is the annotation of a Node that says in which folder its volumes are.
	Directory = "local-path.clipper.dev/directory"
	// Reclaim is the annotation of a Node that lists the volumes whose directories it shall remove.
	Reclaim = "local-path.clipper.dev/reclaim"
)

// Volume returns where a volume's directory is; false if it isn't one of the provisioner's, or not directly in the folder.
func Volume(folder string, pv *corev1.PersistentVolume) (dir string, ok bool) {
	if folder == "" || pv.Spec.Local == nil || pv.Annotations[volumehelpers.AnnDynamicallyProvisioned] != Provisioner {
		return "", false
	}
	dir, err := Path(folder, pv.Name)
	return dir, err == nil && dir == pv.Spec.Local.Path
}

// Path returns the directory of the volume of that name. A name that would lead out of the folder is refused.
func Path(folder, name string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", &NameError{name}
	}
	return filepath.Join(folder, name), nil
}

// NameError is a name that no volume can have.
type NameError struct{ Name string }

func (e *NameError) Error() string { return "no volume can have the name " + e.Name }

// Reclaimed lists the volumes that a node has been asked to remove.
func Reclaimed(node *corev1.Node) []string {
	list := node.Annotations[Reclaim]
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// SetReclaimed writes the list into a node, which must be the caller's own copy.
func SetReclaimed(node *corev1.Node, names []string) {
	if len(names) == 0 {
		delete(node.Annotations, Reclaim)
		return
	}
	names = slices.Clone(names)
	slices.Sort(names)
	metav1.SetMetaDataAnnotation(&node.ObjectMeta, Reclaim, strings.Join(slices.Compact(names), ","))
}
