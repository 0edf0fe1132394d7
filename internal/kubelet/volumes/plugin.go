package volumes

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/downward"
)

// A Plugin knows one type of volume. A volume is one entry of a pod's spec.volumes, or the persistent volume behind its claim.
//
// The life of a volume: before the pod's first container starts, Mount makes the volume's contents appear at Request.Dir, which exists and
// is empty, or holds what an earlier Mount has left: after a crash, at a restart of the kubelet, or because the contents shall be brought up to date.
// So Mount is idempotent, and quick when nothing has changed. Containers see Mounted.Path, which is Dir unless the plugin says otherwise, by
// bind mounts. When no container of the pod is left, Unmount gives back what Mount took; it knows the directory
// alone, since the pod may be gone, and succeeds when there is nothing left to do. The manager then removes the directory. A plugin must
// never follow links inside a volume, whose contents may be the work of the pod.
type Plugin interface {
	// Name names the plugin in paths: "kubernetes.io/empty-dir".
	Name() string
	// Supports tells whether the volume is of the plugin's type.
	Supports(s *Source) bool
	// InMemory tells whether the contents must not be written to a disk.
	InMemory() bool
	// Mount makes the volume appear.
	Mount(ctx context.Context, r *Request) (Mounted, error)
	// Unmount undoes Mount, except for plain files and directories at dir.
	Unmount(ctx context.Context, dir string) error
}

// Source is where a volume comes from: an entry of the pod's spec, and the persistent volume if it is a claim's.
type Source struct {
	Volume   *corev1.Volume
	PV       *corev1.PersistentVolume
	Claim    *corev1.PersistentVolumeClaim // the one that PV is bound to
	ReadOnly bool
}

// Request is one volume to mount.
type Request struct {
	Source
	Pod  *corev1.Pod
	Dir  string
	Host Host
	// FSGroup is the group that shall own the contents; nil for none.
	FSGroup *int64
	// FSUser is the one user that all containers run as; nil if there isn't one.
	FSUser *int64
}

// Mounted is a volume that is in place.
type Mounted struct {
	// Path is what containers see. Empty for volumes that the runtime makes (images).
	Path string
	// ReadOnly forbids writing whatever the container asks for.
	ReadOnly bool
	// Refresh is when the contents have to be brought up to date; zero for only when objects change.
	Refresh time.Time
	// Image is an image that the runtime mounts.
	Image *corev1.ImageVolumeSource
	// Device is the block device of a volume in block mode.
	Device string
	// Managed tells that the kubelet writes the contents: containers never write there.
	Managed bool
}

// Host gives plugins the objects that volumes name. Absence is a NotFound API error.
type Host interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	// Token returns a token for the pod's service account, and when it has to be asked for again.
	Token(ctx context.Context, pod *corev1.Pod, t *corev1.ServiceAccountTokenProjection) (token string, refresh time.Time, err error)
	// TrustBundle returns the certificates of a named bundle or of all that a signer and labels choose.
	TrustBundle(ctx context.Context, t *corev1.ClusterTrustBundleProjection) ([]byte, error)
	// Node answers downward fields of the node.
	Node(pod *corev1.Pod) downward.Node
}
