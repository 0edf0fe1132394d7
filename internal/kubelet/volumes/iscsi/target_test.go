package iscsi

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/volumes"
)

// TestWithATarget runs against a target of the kernel's own and the node's open-iscsi, as "make cgroup2" has them in its emulated machine.
func TestWithATarget(t *testing.T) {
	const configfs = "/sys/kernel/config/target"
	if _, err := exec.LookPath("iscsiadm"); err != nil {
		t.Skip("open-iscsi is not here")
	}
	if _, err := os.Stat(configfs); err != nil {
		t.Skip("the kernel has no target")
	}
	portal := serve(t, configfs)
	p := New(Config{Root: t.TempDir(), Host: host{}, Logger: slog.New(slog.DiscardHandler)})
	first, second := volumeOf(p, "a", portal), volumeOf(p, "b", portal)

	// The target wants to know who comes.
	_, err := p.Mount(t.Context(), first)
	var step *volumes.StepError
	if !errors.As(err, &step) || step.Step != "MountVolume.WaitForAttach" {
		t.Fatalf("mounted without a password: %v", err)
	}
	for _, r := range []*volumes.Request{first, second} {
		r.PV.Spec.ISCSI.SessionCHAPAuth, r.PV.Spec.ISCSI.SecretRef = true, &corev1.SecretReference{Namespace: "default", Name: "chap"}
	}
	const text = "it lasts"
	for _, r := range []*volumes.Request{first, first, second} {
		mounted, err := p.Mount(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if r == first {
			err = os.WriteFile(filepath.Join(mounted.Path, "file"), []byte(text), 0o600)
		}
		if data, readErr := os.ReadFile(filepath.Join(mounted.Path, "file")); err != nil || readErr != nil || string(data) != text {
			t.Fatalf("%q, %v, %v", data, err, readErr)
		}
	}
	// One that is started anew knows what is mounted, and gives it back.
	p = New(p.cfg)
	for _, r := range []*volumes.Request{first, second} {
		if err := p.Unmount(t.Context(), r.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if sessions, err := filepath.Glob("/sys/class/iscsi_session/session*"); err != nil || len(sessions) > 0 {
		t.Fatalf("sessions left: %v, %v", sessions, err)
	}
	mounted, err := p.Mount(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(mounted.Path, "file")); err != nil || string(data) != text {
		t.Fatalf("%q, %v", data, err)
	}
	if err := p.Unmount(t.Context(), first.Dir); err != nil {
		t.Fatal(err)
	}
	block := corev1.PersistentVolumeBlock
	first.PV.Spec.VolumeMode = &block
	if mounted, err = p.Mount(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(mounted.Device); err != nil || info.Mode().Type() != os.ModeDevice {
		t.Fatalf("device %q: %v, %v", mounted.Device, info, err)
	}
	if err := p.Unmount(t.Context(), first.Dir); err != nil {
		t.Fatal(err)
	}
}

// serve makes a target with one unit that lets the host's credentials in, until the test ends. It returns its portal.
func serve(t *testing.T, configfs string) string {
	const portal = "127.0.0.1:3260"
	name, err := os.ReadFile("/etc/iscsi/initiatorname.iscsi")
	if err != nil {
		t.Fatal(err)
	}
	var initiator string
	if _, err := fmt.Sscanf(string(name), "InitiatorName=%s", &initiator); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "unit")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(configfs, "core", "fileio_0", "unit")
	group := filepath.Join(configfs, "iscsi", target, "tpgt_1")
	acl := filepath.Join(group, "acls", initiator)
	made := []string{filepath.Dir(unit), unit, filepath.Join(configfs, "iscsi"), filepath.Dir(group), group, filepath.Join(group, "np", portal), filepath.Join(group, "lun", "lun_0"), acl, filepath.Join(acl, "lun_0")}
	links := []string{filepath.Join(group, "lun", "lun_0", "unit"), filepath.Join(acl, "lun_0", "unit")}
	t.Cleanup(func() {
		for _, l := range []string{links[1], links[0]} {
			os.Remove(l)
		}
		for i := len(made) - 1; i >= 0; i-- {
			os.Remove(made[i])
		}
	})
	steps := []func() error{
		func() error { return os.MkdirAll(unit, 0o755) },
		func() error { return set(unit, "control", fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", file, 64<<20)) },
		func() error { return set(unit, "enable", "1") },
		func() error { return os.MkdirAll(filepath.Join(group, "np", portal), 0o755) },
		func() error { return os.Mkdir(filepath.Join(group, "lun", "lun_0"), 0o755) },
		func() error { return os.Symlink(unit, links[0]) },
		func() error { return os.Mkdir(acl, 0o755) },
		func() error { return os.Mkdir(filepath.Join(acl, "lun_0"), 0o755) },
		func() error { return os.Symlink(filepath.Join(group, "lun", "lun_0"), links[1]) },
		func() error { return set(group, "attrib/authentication", "1") },
		func() error { return set(acl, "auth/userid", "me") },
		func() error { return set(acl, "auth/password", "hush") },
		func() error { return set(group, "enable", "1") },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	return portal
}

func set(dir, attribute, value string) error {
	return os.WriteFile(filepath.Join(dir, attribute), []byte(value), 0o600)
}

// volumeOf asks for the target's unit with a file system, for a pod.
func volumeOf(p *Plugin, pod, portal string) *volumes.Request {
	source := &corev1.ISCSIPersistentVolumeSource{TargetPortal: portal, IQN: target, ISCSIInterface: "default", FSType: "ext4"}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{ISCSI: source}}}
	return &volumes.Request{
		Source: volumes.Source{Volume: &corev1.Volume{Name: "data"}, PV: pv}, Host: host{},
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: types.UID(pod)}},
		Dir: filepath.Join(p.cfg.Root, "pods", pod, "volumes", "kubernetes.io~iscsi", "data"),
	}
}
