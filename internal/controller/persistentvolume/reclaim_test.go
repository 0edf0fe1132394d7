package persistentvolume

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

func TestWhatTheControlPlaneReclaimsItself(t *testing.T) {
	hostPath := corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp/x"}}
	nfs := corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}
	local := corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/x"}}
	for name, test := range map[string]struct {
		source corev1.PersistentVolumeSource
		policy corev1.PersistentVolumeReclaimPolicy
		maker  string
		want   reclaim
	}{
		"a directory of the host is removed":   {hostPath, corev1.PersistentVolumeReclaimDelete, "", remove},
		"… but not one that somebody has made": {hostPath, corev1.PersistentVolumeReclaimDelete, "example.com/disks", nothing},
		"… or emptied":                         {hostPath, corev1.PersistentVolumeReclaimRecycle, "", recycle},
		"a directory of a server is emptied":   {nfs, corev1.PersistentVolumeReclaimRecycle, "", recycle},
		"… never removed":                      {nfs, corev1.PersistentVolumeReclaimDelete, "", nothing},
		"a local volume is neither":            {local, corev1.PersistentVolumeReclaimRecycle, "", nothing},
		"what is retained is let alone":        {hostPath, corev1.PersistentVolumeReclaimRetain, "", nothing},
	} {
		t.Run(name, func(t *testing.T) {
			v := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: test.source, PersistentVolumeReclaimPolicy: test.policy}}
			if test.maker != "" {
				v.Annotations = map[string]string{volumehelpers.AnnDynamicallyProvisioned: test.maker}
			}
			if got := reclaimable(v); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestOnlyWhatLiesBelowTheRootIsRemoved(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(root, "a", "b"), filepath.Join(outside, "kept")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for path, refused := range map[string]bool{
		root: true, outside: true, filepath.Join(root, "..", filepath.Base(outside)) + "x": true, root + "/a/../../x": true,
		filepath.Join(root, "link", "kept"): true, filepath.Join(root, "a"): false, filepath.Join(root, "none"): false,
	} {
		if err := removeBelow(root, path); (err != nil) != refused {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "a")); err == nil {
		t.Error("what should go is there")
	}
}

func TestARecyclerHasTimeByTheSizeOfTheVolume(t *testing.T) {
	small, large := volumeOf("v", "1Gi"), volumeOf("v", "10Gi")
	small.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/tmp/x"}
	large.Spec.NFS = &corev1.NFSVolumeSource{Server: "s", Path: "/"}
	if got := *recycler(small).Spec.ActiveDeadlineSeconds; got != 60 {
		t.Errorf("got %d", got)
	}
	if got := *recycler(large).Spec.ActiveDeadlineSeconds; got != 300 {
		t.Errorf("got %d", got)
	}
}
