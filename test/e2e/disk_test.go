package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"clipper.dev/clipper/internal/cluster"
)

// smallDisk is a cluster of which a folder has a small disk of its own.
type smallDisk struct {
	cluster.Layout
	disk   string // where it is mounted
	client *kubernetes.Clientset
	pod    *corev1.Pod // writes lines, and answers at its address
}

func newSmallDisk(t *testing.T, folder func(cluster.Layout) string, size string) *smallDisk {
	t.Helper()
	d := &smallDisk{Layout: layout(t, diskName)}
	d.disk = folder(d.Layout)
	if err := purgeDisk(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("disk", d.disk, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.DataDir+"/CLIPPER", []byte(diskName+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := programFor(diskName, "down", "--purge"); err != nil {
			t.Errorf("clipper down --purge: %v\n%s", err, out)
		}
		// The disk is not Clipper's to unmount: it is empty, and there.
		if left, err := os.ReadDir(d.disk); err != nil || len(left) > 0 {
			t.Errorf("the disk holds %v, %v", left, err)
		}
		if err := errors.Join(unix.Unmount(d.disk, 0), os.RemoveAll(d.DataDir), remains(d.Layout)); err != nil {
			t.Error(err)
		}
	})
	d.up(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", d.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	if d.client, err = kubernetes.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	d.startPod(t)
	return d
}

// purgeDisk removes what a run that was cut off left: its disk first, which may hold what cannot be removed file by file.
func purgeDisk() error {
	l, err := cluster.NewLayout(diskName)
	if err != nil {
		return err
	}
	for _, dir := range []string{l.EtcdDir(), l.DataDir} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting the disk of a run that was cut off: %w", err)
		}
	}
	return purge(diskName)
}

func (d *smallDisk) up(t *testing.T) {
	t.Helper()
	if out, err := programFor(diskName, "up"); err != nil {
		t.Fatalf("clipper up: %v\n%s", err, out)
	}
}

func (d *smallDisk) startPod(t *testing.T) {
	t.Helper()
	pods := d.client.CoreV1().Pods("default")
	eventually(t, 10*time.Second, func() error {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "goes-on"}, Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "lines", Image: "clipper.dev/demo:v1", Args: []string{"lines", "5ms"}}, {Name: "web", Image: "clipper.dev/demo:v1"},
		}}}, metav1.CreateOptions{})
		return err // the default service account may not be there yet
	})
	eventually(t, 30*time.Second, func() (err error) {
		if d.pod, err = pods.Get(t.Context(), "goes-on", metav1.GetOptions{}); err == nil && d.pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("the pod is %s", d.pod.Status.Phase)
		}
		return err
	})
}

// write makes a ConfigMap of some size.
func (d *smallDisk) write(t *testing.T, bytes int) error {
	_, err := d.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "written-"}, BinaryData: map[string][]byte{"data": make([]byte, bytes)},
	}, metav1.CreateOptions{})
	return err
}

// answers asks the pod itself, past the API.
func (d *smallDisk) answers(t *testing.T) {
	t.Helper()
	if version, err := get("http://" + net.JoinHostPort(d.pod.Status.PodIP, "8080") + "/version"); err != nil || version != "v1" {
		t.Errorf("the pod answers %q, %v", version, err)
	}
}

// wentOn asserts that the pod's containers are the same as ever, and that no line of their log is missing.
func (d *smallDisk) wentOn(t *testing.T) {
	t.Helper()
	d.answers(t)
	now, err := d.client.CoreV1().Pods("default").Get(t.Context(), d.pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range now.Status.ContainerStatuses {
		if old := d.pod.Status.ContainerStatuses[i]; c.RestartCount != 0 || c.ContainerID != old.ContainerID {
			t.Errorf("container %s is another: %+v", c.Name, c)
		}
	}
	var log []byte
	eventually(t, 10*time.Second, func() (err error) { // a kubelet that has just started takes a moment to know its pods
		log, err = d.client.CoreV1().Pods("default").GetLogs(d.pod.Name, &corev1.PodLogOptions{Container: "lines"}).DoRaw(t.Context())
		return err
	})
	n := 0
	for line := range strings.Lines(string(log)) {
		if n++; line != fmt.Sprintf("line %d\n", n) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
}

// fill lets a file grow until the disk has no byte left, and returns its name.
func (d *smallDisk) fill(t *testing.T) string {
	t.Helper()
	path := filepath.Join(d.disk, "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

func TestFullDisk(t *testing.T) {
	builtInOnly(t)
	for name, c := range map[string]struct {
		folder func(cluster.Layout) string
		size   string
	}{
		"of_the_database": {cluster.Layout.EtcdDir, "200m"},
		"of_everything":   {func(l cluster.Layout) string { return l.DataDir }, "600m"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newSmallDisk(t, c.folder, c.size)
			filler := d.fill(t)
			eventually(t, 10*time.Second, func() error { return d.refused(t) })
			d.wentOn(t)
			killDaemon(t, d.PIDFile())
			d.up(t)
			d.fill(t) // what the start has freed
			eventually(t, 10*time.Second, func() error { return d.refused(t) })
			d.wentOn(t)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, func() error { return d.write(t, 1000) })
			d.wentOn(t)
		})
	}
}

// refused asserts that a write is refused, with one line that says what to do.
func (d *smallDisk) refused(t *testing.T) error {
	err := d.write(t, 1000)
	if err == nil {
		return errors.New("a write was accepted")
	}
	if text := err.Error(); !strings.Contains(text, "MiB free on the disk of "+d.EtcdDir()) || strings.Contains(text, "\n") {
		return fmt.Errorf("the refusal says %q", text)
	}
	return nil
}

// TestStoppedDatabase has the database's log fail under load, which ends etcd: the server comes back by itself.
func TestStoppedDatabase(t *testing.T) {
	builtInOnly(t)
	d := newSmallDisk(t, cluster.Layout.EtcdDir, "200m")
	pid := daemonPID(t, d.PIDFile())
	logs := filepath.Join(d.EtcdDir(), "etcd", "member", "wal")
	setImmutable(t, logs, true) // the log's next segment cannot be made
	eventually(t, 60*time.Second, func() error {
		if err := d.write(t, 1<<20); err != nil {
			return nil
		}
		return errors.New("writes are still accepted")
	})
	eventually(t, 20*time.Second, func() error {
		return d.logged("the database has stopped: writes are refused, everything that runs goes on")
	})
	d.answers(t)
	setImmutable(t, logs, false)
	if err := unix.Mount("", d.EtcdDir(), "", unix.MS_REMOUNT, "size=500m"); err != nil { // there is room again
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error { return d.logged("starting anew to open the database again") })
	eventually(t, 30*time.Second, func() error { return d.write(t, 1000) })
	d.wentOn(t)
	if now := daemonPID(t, d.PIDFile()); now != pid {
		t.Errorf("the server is process %d, and was %d", now, pid)
	}
}

// logged tells whether the server's log has a line.
func (d *smallDisk) logged(line string) error {
	log, err := os.ReadFile(d.LogFile())
	if err == nil && !strings.Contains(string(log), line) {
		err = fmt.Errorf("the log does not say %q", line)
	}
	return err
}

// setImmutable makes a folder one in which not even root makes files, or ends that.
func setImmutable(t *testing.T, dir string, on bool) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	flags := 0
	if on {
		flags = immutable
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Fatal(err)
	}
}
