package volumes

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/downward"
)

// host is a Host whose objects are in memory.
type host struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	pvs        map[string]*corev1.PersistentVolume
	pvcs       map[string]*corev1.PersistentVolumeClaim
	token      string
}

func lookup[T any](m map[string]*T, kind, name string) (*T, error) {
	if v := m[name]; v != nil {
		return v, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource(kind), name)
}

func (h *host) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	return lookup(h.configMaps, "configmap", name)
}
func (h *host) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	return lookup(h.secrets, "secret", name)
}
func (h *host) Claim(_ context.Context, _, name string) (*corev1.PersistentVolumeClaim, error) {
	return lookup(h.pvcs, "persistentvolumeclaim", name)
}
func (h *host) PersistentVolume(_ context.Context, name string) (*corev1.PersistentVolume, error) {
	return lookup(h.pvs, "persistentvolume", name)
}
func (h *host) Token(context.Context, *corev1.Pod, *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	return h.token, time.Unix(2_000_000_000, 0), nil
}
func (h *host) TrustBundle(context.Context, *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	return []byte("bundle"), nil
}
func (h *host) Node(*corev1.Pod) downward.Node {
	return downward.Node{Allocatable: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceCPU: resource.MustParse("2")}}
}

func newManager(t *testing.T, h *host) *Manager {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := t.TempDir()
	m, err := New(Config{Root: root, Host: h, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Purge(root); err != nil {
			t.Error(err)
		}
	})
	return m
}

func mode(m int32) *int32 { return &m }

func podWith(v corev1.VolumeSource, mounts ...corev1.VolumeMount) *corev1.Pod {
	if mounts == nil {
		mounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid-1", Labels: map[string]string{"a": "1"}},
		Spec:       corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: v}}, Containers: []corev1.Container{{Name: "c", VolumeMounts: mounts}}},
	}
}

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// TestEveryPlugin runs the same life through every type of volume: it's mounted, mounted again, seen, unmounted, unmounted again.
func TestEveryPlugin(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "kept"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	size := resource.MustParse("1Mi")
	dir := corev1.HostPathDirectory
	bound := func(spec corev1.PersistentVolumeSource) *host {
		return &host{
			pvcs: map[string]*corev1.PersistentVolumeClaim{"claim": {ObjectMeta: metav1.ObjectMeta{UID: "claim-uid"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}},
			pvs:  map[string]*corev1.PersistentVolume{"pv": {ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: spec, ClaimRef: &corev1.ObjectReference{UID: "claim-uid"}}}},
		}
	}
	claim := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}
	objects := &host{
		configMaps: map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"k": "v"}, BinaryData: map[string][]byte{"b": {0, 1}}}},
		secrets:    map[string]*corev1.Secret{"s": {Data: map[string][]byte{"k": []byte("secret")}}}, token: "token",
	}
	for _, tc := range []struct {
		name   string
		host   *host
		source corev1.VolumeSource
		files  map[string]string
	}{
		{"emptyDir", objects, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, nil},
		{"emptyDir in memory", objects, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}}, nil},
		{"hostPath", objects, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: outside, Type: &dir}}, map[string]string{"kept": "precious"}},
		{"configMap", objects, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("cm"), DefaultMode: mode(0o640)}}, map[string]string{"k": "v", "b": "\x00\x01"}},
		{"configMap with items", objects, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("cm"), DefaultMode: mode(0o644), Items: []corev1.KeyToPath{{Key: "k", Path: "deep/down"}}}}, map[string]string{"deep/down": "v"}},
		{"secret", objects, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: mode(0o400)}}, map[string]string{"k": "secret"}},
		{"downwardAPI", objects, corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultMode: mode(0o644), Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}}, map[string]string{"labels": `a="1"`}},
		{"projected", objects, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: mode(0o644), Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}, {ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("cm")}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: local("missing"), Optional: new(true)}}, {ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "ca"}},
		}}}, map[string]string{"token": "token", "k": "v", "ca": "bundle"}},
		{"hostPath behind a claim", bound(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: outside}}), claim, map[string]string{"kept": "precious"}},
		{"local volume behind a claim", bound(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: outside}}), claim, map[string]string{"kept": "precious"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, pod := newManager(t, tc.host), podWith(tc.source)
			var path string
			for range 2 {
				mounted, err := m.Mount(t.Context(), pod)
				if err != nil {
					t.Fatal(err)
				}
				path = mounted["v"].Path
				for name, want := range tc.files {
					if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(got) != want {
						t.Errorf("%s = %q, %v; want %q", name, got, err, want)
					}
				}
			}
			for range 2 {
				if err := m.Unmount(t.Context(), pod.UID); err != nil {
					t.Fatal(err)
				}
				if err := m.Remove(pod.UID); err != nil {
					t.Fatal(err)
				}
			}
			if uids, err := m.Pods(); err != nil || len(uids) != 0 {
				t.Errorf("left behind: %v, %v", uids, err)
			}
			if got, err := os.ReadFile(filepath.Join(outside, "kept")); err != nil || string(got) != "precious" {
				t.Fatalf("a file outside the pod was harmed: %q, %v", got, err)
			}
		})
	}
}

func TestMountErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source corev1.VolumeSource
		want   string
	}{
		{"a ConfigMap that isn't there", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("cm"), DefaultMode: mode(0o644)}}, `configmap "cm" not found`},
		{"a key that isn't there", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: mode(0o644), Items: []corev1.KeyToPath{{Key: "x", Path: "x"}}}}, "references non-existent secret key: x"},
		{"a path that leaves the volume", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: mode(0o644), Items: []corev1.KeyToPath{{Key: "k", Path: "a/../../x"}}}}, "must not contain '..'"},
		{"a hostPath of another type", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc", Type: new(corev1.HostPathFile)}}, "hostPath type check failed: /etc is not a file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newManager(t, &host{secrets: map[string]*corev1.Secret{"s": {Data: map[string][]byte{"k": nil}}}})
			_, err := m.Mount(t.Context(), podWith(tc.source))
			var failure *MountError
			if !errors.As(err, &failure) || !strings.HasPrefix(err.Error(), `MountVolume.SetUp failed for volume "v" : `) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %s", err, tc.want)
			}
		})
	}
}

func TestContentsChangeAtOnceAndKeepTheirDirectory(t *testing.T) {
	h := &host{configMaps: map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"a": "1", "b": "1"}}}}
	m := newManager(t, h)
	pod := podWith(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("cm"), DefaultMode: mode(0o644)}})
	mounted, err := m.Mount(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	dir := mounted["v"].Path
	before, _ := os.Readlink(filepath.Join(dir, "..data"))
	if _, err := m.Mount(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(dir, "..data")); again != before {
		t.Error("unchanged contents were written again")
	}
	h.configMaps["cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "2", "c": "2"}}
	if _, err := m.Mount(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..2") {
			names = append(names, e.Name())
		}
	}
	if !slices.Equal(names, []string{"..data", "a", "c"}) || len(entries) != 4 {
		t.Errorf("entries = %v", entries)
	}
}

func TestGroupOwnership(t *testing.T) {
	group, user := int64(4242), int64(1234)
	m := newManager(t, &host{token: "t"})
	pod := podWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: mode(0o644), Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}}}})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group, RunAsUser: &user}
	mounted, err := m.Mount(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(mounted["v"].Path, "token"), &st); err != nil {
		t.Fatal(err)
	}
	if int64(st.Gid) != group || int64(st.Uid) != user || st.Mode&0o777 != 0o640 {
		t.Errorf("token belongs to %d:%d with mode %o", st.Uid, st.Gid, st.Mode&0o777)
	}
}

func mounts(t *testing.T, m *Manager, pod *corev1.Pod, env ...criconfig.EnvVar) (string, error) {
	t.Helper()
	volumes, err := m.Mount(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.ContainerMounts(MountInput{UID: pod.UID, Container: &pod.Spec.Containers[0], Volumes: volumes, Env: env})
	if err != nil {
		return "", err
	}
	return out[0].HostPath, nil
}

func TestSubPaths(t *testing.T) {
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	t.Run("a missing one is made", func(t *testing.T) {
		m := newManager(t, &host{})
		pod := podWith(empty, corev1.VolumeMount{Name: "v", MountPath: "/v", SubPathExpr: "a/$(NAME)"})
		path, err := mounts(t, m, pod, criconfig.EnvVar{Name: "NAME", Value: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "f"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		inside := filepath.Join(m.PodDir(pod.UID), "volumes/kubernetes.io~empty-dir/v/a/b/f")
		if _, err := os.Stat(inside); err != nil {
			t.Error(err)
		}
		if err := m.Unmount(t.Context(), pod.UID); err != nil {
			t.Error(err)
		}
	})
	t.Run("a missing one gets all the mode of its volume", func(t *testing.T) {
		m := newManager(t, &host{})
		pod := podWith(empty, corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "a"})
		volumes, err := m.Mount(t.Context(), pod)
		if err != nil {
			t.Fatal(err)
		}
		mode := os.ModeDir | os.ModeSetgid | os.ModeSticky | 0o777
		if err := os.Chmod(volumes["v"].Path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := mounts(t, m, pod); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(volumes["v"].Path, "a")); err != nil || info.Mode() != mode {
			t.Errorf("%v %v", info, err)
		}
		if err := m.Unmount(t.Context(), pod.UID); err != nil {
			t.Error(err)
		}
	})
	t.Run("an unknown variable is refused", func(t *testing.T) {
		m := newManager(t, &host{})
		if _, err := mounts(t, m, podWith(empty, corev1.VolumeMount{Name: "v", MountPath: "/v", SubPathExpr: "$(NAME)"})); err == nil || err.Error() != `missing value for "NAME"` {
			t.Errorf("error = %v", err)
		}
	})
	for name, target := range map[string]string{"an absolute link": "/etc", "a link upwards": "../../../../../../../../etc"} {
		t.Run(name+" out of the volume is refused", func(t *testing.T) {
			m := newManager(t, &host{})
			pod := podWith(empty, corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "link"})
			volumes, err := m.Mount(t.Context(), pod)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(volumes["v"].Path, "link")); err != nil {
				t.Fatal(err)
			}
			if path, err := mounts(t, m, pod); err == nil {
				t.Errorf("%s was mounted", path)
			}
		})
	}
}

// TestARacingPodCannotEscapeThroughASubPath swaps a directory for a link to the host as fast as it can while the subpath is prepared.
func TestARacingPodCannotEscapeThroughASubPath(t *testing.T) {
	m := newManager(t, &host{})
	pod := podWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "d/etc"})
	volumes, err := m.Mount(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	root := volumes["v"].Path
	real, fake, name := filepath.Join(root, "real"), filepath.Join(root, "fake"), filepath.Join(root, "d")
	if err := os.MkdirAll(filepath.Join(real, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", fake); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(real, name); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// RENAME_EXCHANGE swaps the directory and the link in one step.
			_ = unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, fake, unix.RENAME_EXCHANGE)
		}
	})
	tried := 0
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); tried++ {
		path, err := mounts(t, m, pod)
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(path, "passwd")); err == nil {
			t.Error("the host's /etc was mounted into the pod")
			break
		}
	}
	close(stop)
	wg.Wait()
	if tried == 0 {
		t.Error("nothing was tried")
	}
}
