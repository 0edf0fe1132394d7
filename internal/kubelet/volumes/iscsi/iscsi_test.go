package iscsi

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/volumes"
)

const target = "iqn.2026-01.dev.clipper:disks"

type host struct{ volumes.Host }

func (host) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	if namespace != "default" || name != "chap" {
		return nil, errors.New("no such secret")
	}
	return &corev1.Secret{Data: map[string][]byte{"node.session.auth.username": []byte("me"), "node.session.auth.password": []byte("hush")}}, nil
}

// rig is a plugin on a kernel that exists in a folder, with a tool that writes down what it was called for.
type rig struct {
	*Plugin
	t     *testing.T
	root  string
	calls []string
	fails string // a call that has this in it fails
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, root: t.TempDir()}
	r.Plugin = New(Config{Root: filepath.Join(r.root, "kubelet"), Host: host{}, Logger: slog.New(slog.DiscardHandler)})
	r.sys = sysfs(filepath.Join(r.root, "sys"))
	r.admin = r.run
	return r
}

func (r *rig) run(_ context.Context, args ...string) (string, error) {
	call := strings.Join(args, " ")
	r.calls = append(r.calls, call)
	if r.fails != "" && strings.Contains(call, r.fails) {
		return "", errors.New("refused")
	}
	flag := func(name string) string {
		for i, a := range args[:len(args)-1] {
			if a == name {
				return args[i+1]
			}
		}
		return ""
	}
	switch {
	case strings.HasSuffix(call, "--login"):
		r.appear(flag("-T"), flag("-I"), flag("-p"))
	case strings.HasSuffix(call, "--logout"):
		r.must(os.RemoveAll(filepath.Join(string(r.sys), "class", "iscsi_session")))
	case strings.HasSuffix(call, "-o show"):
		return "# BEGIN RECORD\niface.iscsi_ifacename = default\niface.transport_name = tcp\niface.initiatorname = <empty>\niface.mtu = 9000\n", nil
	}
	return "", nil
}

// appear makes a session as the kernel shows it, with units 0 and 1.
func (r *rig) appear(target, iface, portal string) {
	i := strings.LastIndex(portal, ":")
	device := filepath.Join(string(r.sys), "devices", "host7", "session3")
	for path, contents := range map[string]string{
		"class/iscsi_session/session3/targetname":                                                target,
		"class/iscsi_session/session3/ifacename":                                                 iface,
		"class/scsi_host/host7/scan":                                                             "",
		"devices/host7/session3/connection3:0/iscsi_connection/connection3:0/persistent_address": strings.Trim(portal[:i], "[]"),
		"devices/host7/session3/connection3:0/iscsi_connection/connection3:0/persistent_port":    portal[i+1:] + "\n",
		"devices/host7/session3/target7:0:0/7:0:0:0/block/sdb/size":                              "1",
		"devices/host7/session3/target7:0:0/7:0:0:1/block/sdc/size":                              "1",
		"block/sdb/device/delete":                                                                "",
		"block/sdc/device/delete":                                                                "",
	} {
		path = filepath.Join(string(r.sys), path)
		r.must(os.MkdirAll(filepath.Dir(path), 0o755))
		r.must(os.WriteFile(path, []byte(contents), 0o600))
	}
	r.must(os.Symlink(device, filepath.Join(string(r.sys), "class", "iscsi_session", "session3", "device")))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// took returns the calls since it was asked last.
func (r *rig) took() string {
	defer func() { r.calls = nil }()
	return strings.Join(r.calls, "\n")
}

// request asks for a unit as a device, for a pod.
func (r *rig) request(pod string, unit int32, change func(*corev1.ISCSIPersistentVolumeSource)) *volumes.Request {
	block := corev1.PersistentVolumeBlock
	source := &corev1.ISCSIPersistentVolumeSource{TargetPortal: "192.0.2.7", IQN: target, Lun: unit, ISCSIInterface: "default"}
	if change != nil {
		change(source)
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeSpec{VolumeMode: &block, PersistentVolumeSource: corev1.PersistentVolumeSource{ISCSI: source}}}
	return &volumes.Request{
		Source: volumes.Source{Volume: &corev1.Volume{Name: "data"}, PV: pv}, Host: host{},
		Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", UID: types.UID(pod)}},
		Dir: filepath.Join(r.cfg.Root, "pods", pod, "volumes", "kubernetes.io~iscsi", "data"),
	}
}

func (r *rig) deleted(device string) string {
	data, err := os.ReadFile(filepath.Join(string(r.sys), "block", device, "device", "delete"))
	r.must(err)
	return string(data)
}

func TestTwoPodsShareASessionAndTheLastEndsIt(t *testing.T) {
	r := newRig(t)
	first, second, other := r.request("a", 0, nil), r.request("b", 0, nil), r.request("c", 1, nil)
	for _, c := range []struct {
		request *volumes.Request
		device  string
	}{{first, "/dev/sdb"}, {second, "/dev/sdb"}, {other, "/dev/sdc"}, {first, "/dev/sdb"}} {
		got, err := r.Mount(t.Context(), c.request)
		if err != nil || got.Device != c.device {
			t.Fatalf("mounted %+v, %v; want %s", got, err, c.device)
		}
	}
	want := `-m discoverydb -t sendtargets -p 192.0.2.7:3260 -I default -o new
-m discoverydb -t sendtargets -p 192.0.2.7:3260 -I default --discover
-m node -p 192.0.2.7:3260 -T iqn.2026-01.dev.clipper:disks -I default -o update -n node.session.scan -v manual
-m node -p 192.0.2.7:3260 -T iqn.2026-01.dev.clipper:disks -I default --login
-m node -p 192.0.2.7:3260 -T iqn.2026-01.dev.clipper:disks -I default -o update -n node.startup -v manual`
	if diff := cmp.Diff(want, r.took()); diff != "" {
		t.Fatal(diff)
	}
	// A kubelet that was started anew gives back what the earlier one took.
	again := newRig(t)
	again.cfg.Root, again.sys = r.cfg.Root, r.sys
	for _, d := range []string{first.Dir, first.Dir, second.Dir} {
		if err := again.Unmount(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if again.deleted("sdb") != "1" || again.deleted("sdc") != "" || again.took() != "" {
		t.Fatal("the unit that nobody uses goes, the other and the session stay")
	}
	// The kernel removes what it was told to.
	r.must(os.RemoveAll(filepath.Join(string(r.sys), "devices", "host7", "session3", "target7:0:0", "7:0:0:0")))
	r.must(os.RemoveAll(filepath.Join(string(r.sys), "devices", "host7", "session3", "target7:0:0", "7:0:0:1", "block")))
	if err := again.Unmount(t.Context(), other.Dir); err != nil {
		t.Fatal(err)
	}
	want = `-m node -p 192.0.2.7:3260 -T iqn.2026-01.dev.clipper:disks -I default --logout
-m node -p 192.0.2.7:3260 -T iqn.2026-01.dev.clipper:disks -I default -o delete`
	if diff := cmp.Diff(want, again.took()); diff != "" {
		t.Fatal(diff)
	}
	if left, err := again.inUse(); err != nil || len(left) > 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
}

func TestAnInitiatorOfAnotherNameAndCHAP(t *testing.T) {
	r := newRig(t)
	name := "iqn.2026-01.dev.clipper:me"
	request := r.request("a", 1, func(s *corev1.ISCSIPersistentVolumeSource) {
		s.TargetPortal, s.InitiatorName = "[2001:db8::7]:3261", &name
		s.SessionCHAPAuth, s.SecretRef = true, &corev1.SecretReference{Namespace: "default", Name: "chap"}
	})
	if got, err := r.Mount(t.Context(), request); err != nil || got.Device != "/dev/sdc" {
		t.Fatalf("mounted %+v, %v", got, err)
	}
	took := r.took()
	for _, call := range []string{
		"-m iface -I [2001:db8::7]:3261:data -o new",
		"-m iface -I [2001:db8::7]:3261:data -o update -n iface.mtu -v 9000",
		"-m iface -I [2001:db8::7]:3261:data -o update -n iface.initiatorname -v " + name,
		"-o update -n node.session.auth.authmethod -v CHAP",
		"-o update -n node.session.auth.password -v hush",
		"-m node -p [2001:db8::7]:3261 -T " + target + " -I [2001:db8::7]:3261:data --login",
	} {
		if !strings.Contains(took, call) {
			t.Errorf("not called: %s\n%s", call, took)
		}
	}
	if strings.Contains(took, "discovery.sendtargets.auth") || strings.Contains(took, "iface.iscsi_ifacename") {
		t.Error("called for what was not asked for:\n" + took)
	}
	if data, err := os.ReadFile(filepath.Join(r.dir(&disk{Interface: "[2001:db8::7]:3261:data", Target: target, Unit: 1}), recordFile)); err != nil || strings.Contains(string(data), "hush") {
		t.Errorf("record: %s, %v", data, err)
	}
}

func TestALoginThatFailsIsTakenBackAndTold(t *testing.T) {
	r := newRig(t)
	r.fails = "--login"
	request := r.request("a", 0, nil)
	_, err := r.Mount(t.Context(), request)
	var step *volumes.StepError
	if !errors.As(err, &step) || step.Step != "MapVolume.WaitForAttach" || !strings.Contains(err.Error(), "portal 192.0.2.7:3260: refused") {
		t.Fatal(err)
	}
	if !strings.HasSuffix(r.took(), "-T "+target+" -I default -o delete") {
		t.Error("the node's record stays")
	}
	if err := r.Unmount(t.Context(), request.Dir); err != nil {
		t.Fatal(err)
	}
	if left, err := r.inUse(); err != nil || len(left) > 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
}
