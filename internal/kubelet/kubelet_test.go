package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/kubelettest"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

const testNode = "n1"

// rig is a kubelet with a fake API and a fake runtime.
type rig struct {
	t      *testing.T
	api    *clienttest.Client
	rt     *kubelettest.Runtime
	cfg    Config
	k      *Kubelet
	cancel context.CancelFunc
	ended  chan error
}

func newRig(t *testing.T, objects ...client.Object) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a kubelet needs root for control groups and mounts")
	}
	rt := kubelettest.Start(t)
	rt.AddImage("app:v1")
	dir := t.TempDir()
	group := fmt.Sprintf("/clipper-kubelet-test-%d", os.Getpid())
	r := &rig{t: t, rt: rt, api: clienttest.New(append(objects,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt(6443)}}}},
	)...)}
	settings, err := configuration.Given{}.Complete(kubeletconfig.KubeletConfiguration{
		ContainerRuntimeEndpoint: rt.Endpoint, PodLogsDir: filepath.Join(dir, "logs"), CgroupRoot: group, Port: 10250, ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local",
	})
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = Config{
		Cluster: "test", NodeName: testNode, NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Client: r.api,
		RootDir: filepath.Join(dir, "kubelet"), Settings: settings, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(func() {
		r.stop()
		pods, err := volumes.Pods(r.cfg.RootDir)
		if err != nil {
			t.Error(err)
		}
		tree, err := cgroups.New(group)
		if err == nil {
			err = tree.Leave(pods)
		}
		if err := errors.Join(err, volumes.Purge(r.cfg.RootDir)); err != nil {
			t.Error(err)
		}
	})
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	k, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.k, r.cancel, r.ended = k, cancel, make(chan error, 1)
	go func() { r.ended <- k.Run(ctx) }()
}

func (r *rig) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Errorf("kubelet: %v", err)
	}
	r.cancel = nil
}

func testPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	grace := int64(30)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{
			NodeName: testNode, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "app", Image: "app:v1", ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePath: "/dev/termination-log"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func (r *rig) create(pod *corev1.Pod) *corev1.Pod {
	r.t.Helper()
	created, err := client.Pods.Create(r.t.Context(), r.api, pod)
	if err != nil {
		r.t.Fatal(err)
	}
	return created
}

// eventually waits until the pod is as the condition wants it.
func (r *rig) eventually(name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	r.t.Helper()
	var last *corev1.Pod
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pod, err := client.Pods.Get(r.t.Context(), r.api, "default", name)
		if apierrors.IsNotFound(err) {
			pod = nil
		} else if err != nil {
			r.t.Fatal(err)
		}
		if last = pod; ok(pod) {
			return pod
		}
	}
	r.t.Fatalf("pod %s never was %s; last status %+v; calls %q", name, what, statusOf(last), r.rt.Calls())
	return nil
}

func statusOf(p *corev1.Pod) any {
	if p == nil {
		return "gone"
	}
	return p.Status
}

func running(p *corev1.Pod) bool {
	return p != nil && p.Status.Phase == corev1.PodRunning && ready(p)
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func gone(p *corev1.Pod) bool { return p == nil }

func (r *rig) events(reason string) []string {
	r.t.Helper()
	list, err := r.api.List(r.t.Context(), corev1.SchemeGroupVersion.WithResource("events"), "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, o := range list {
		if e := o.(*corev1.Event); e.Reason == reason {
			out = append(out, e.Message)
		}
	}
	return out
}

func TestAPodIsStartedReportedAndRemoved(t *testing.T) {
	r := newRig(t)
	begun := time.Now()
	r.create(testPod("web", nil))
	pod := r.eventually("web", "running", running)
	t.Logf("running after %v", time.Since(begun))
	s := pod.Status
	if s.PodIP == "" || s.HostIP != "192.0.2.1" || s.StartTime == nil || s.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status = %+v", s)
	}
	c := s.ContainerStatuses[0]
	if !strings.HasPrefix(c.ContainerID, "fake://") || c.State.Running == nil || !c.Ready || c.Started == nil || !*c.Started || c.ImageID != "sha256:app:v1" {
		t.Errorf("container status = %+v", c)
	}
	if err := client.Pods.Delete(t.Context(), r.api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually("web", "gone", gone)
	r.wait("sandboxes removed", func() bool { all, _ := r.rt.Sandboxes(); return all == 0 })
	if calls := strings.Join(r.rt.Calls(), ","); calls != "sandbox web,start app,stop app 30,stop-sandbox web" {
		t.Errorf("calls = %s", calls)
	}
	r.wait("the pod's directory removed", func() bool { _, err := os.Stat(r.k.volumes.PodDir("uid-web")); return os.IsNotExist(err) })
}

func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	r.t.Fatalf("never: %s", what)
}

func TestAContainerThatExitsIsRestartedThenBackedOff(t *testing.T) {
	r := newRig(t)
	r.create(testPod("crash", nil))
	r.eventually("crash", "running", running)
	ids, _ := r.rt.Containers("app")
	r.rt.Exit(ids[0], 3)
	pod := r.eventually("crash", "restarted", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state = %+v", last)
	}
	ids, _ = r.rt.Containers("app")
	r.rt.Exit(ids[len(ids)-1], 4)
	pod = r.eventually("crash", "backed off", func(p *corev1.Pod) bool {
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	want := "back-off 10s restarting failed container=app pod=crash_default(uid-crash)"
	if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
}

func TestAnotherImageDoesNotWaitForTheFormerOnesCrashes(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("app:v2")
	r.create(testPod("crash", nil))
	r.eventually("crash", "running", running)
	for exits := int32(1); exits <= 2; exits++ {
		ids, _ := r.rt.Containers("app")
		r.rt.Exit(ids[len(ids)-1], 1)
		if exits == 1 {
			r.eventually("crash", "restarted", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == exits })
		}
	}
	pod := r.eventually("crash", "backed off", func(p *corev1.Pod) bool { return waitsFor(p, "CrashLoopBackOff") }).DeepCopy()
	pod.Spec.Containers[0].Image = "app:v2"
	if _, err := client.Pods.Update(t.Context(), r.api, pod); err != nil {
		t.Fatal(err)
	}
	r.eventually("crash", "restarted at once", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 2 })
}

func TestRunToCompletion(t *testing.T) {
	for code, phase := range map[int32]corev1.PodPhase{0: corev1.PodSucceeded, 1: corev1.PodFailed} {
		t.Run(string(phase), func(t *testing.T) {
			r := newRig(t)
			r.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
			r.eventually("job", "running", running)
			ids, _ := r.rt.Containers("app")
			r.rt.Exit(ids[0], code)
			pod := r.eventually("job", "finished", func(p *corev1.Pod) bool { return p.Status.Phase == phase })
			if done := pod.Status.ContainerStatuses[0].State.Terminated; done == nil || done.ExitCode != code {
				t.Errorf("state = %+v", pod.Status.ContainerStatuses[0].State)
			}
			if ids, _ := r.rt.Containers("app"); len(ids) != 1 {
				t.Errorf("%d containers, want the one whose log can be read", len(ids))
			}
		})
	}
}

func TestAnEndThatWasNotToldBeforeAKillIsToldWhole(t *testing.T) {
	r := newRig(t)
	r.create(testPod("job", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}))
	before := r.eventually("job", "running", running)
	dir := r.k.volumes.PodDir("uid-job")
	messages, err := filepath.Glob(filepath.Join(dir, "containers/app/*"))
	if err != nil || len(messages) != 1 {
		t.Fatalf("termination messages: %v, %v", messages, err)
	}
	if err := os.WriteFile(messages[0], []byte("bye"), 0o666); err != nil {
		t.Fatal(err)
	}
	ids, _ := r.rt.Containers("app")
	r.rt.Exit(ids[0], 0)
	r.eventually("job", "finished", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	r.wait("the volumes are given back", func() bool { _, err := os.Stat(filepath.Join(dir, "volumes")); return os.IsNotExist(err) })
	r.stop()

	// As if the write of the status had been lost.
	pod := r.eventually("job", "finished", func(*corev1.Pod) bool { return true }).DeepCopy()
	pod.Status = before.Status
	if _, err := client.Pods.UpdateStatus(t.Context(), r.api, pod); err != nil {
		t.Fatal(err)
	}
	r.start()
	pod = r.eventually("job", "finished again", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if end := pod.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Message != "bye" {
		t.Errorf("the container's end = %+v, want the message that it left", end)
	}
}

func TestInitContainersRunInOrderAndSidecarsOutlive(t *testing.T) {
	r := newRig(t)
	always := corev1.ContainerRestartPolicyAlways
	r.create(testPod("order", func(p *corev1.Pod) {
		base := p.Spec.Containers[0]
		side, first := base, base
		side.Name, side.RestartPolicy = "side", &always
		first.Name = "first"
		p.Spec.InitContainers = []corev1.Container{first, side}
	}))
	r.wait("first init container runs", func() bool { _, running := r.rt.Containers("first"); return len(running) == 1 && running[0] })
	if ids, _ := r.rt.Containers("side"); len(ids) != 0 {
		t.Error("the sidecar did not wait for the container before it")
	}
	ids, _ := r.rt.Containers("first")
	r.rt.Exit(ids[0], 0)
	r.eventually("order", "running", running)
	if err := client.Pods.Delete(t.Context(), r.api, "default", "order", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.eventually("order", "gone", gone)
	calls := strings.Join(r.rt.Calls(), ",")
	if want := "sandbox order,start first,start side,start app,stop app 30,stop side 30,stop-sandbox order"; calls != want {
		t.Errorf("calls = %s, want %s", calls, want)
	}
}

func TestARestartedKubeletAdoptsWhatRuns(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.create(testPod(fmt.Sprint("p", i), nil))
	}
	for i := range 5 {
		r.eventually(fmt.Sprint("p", i), "running", running)
	}
	before := r.rt.Calls()
	r.stop()
	ids, _ := r.rt.Containers("app")
	r.rt.Exit(ids[0], 7)
	if err := client.Pods.Delete(t.Context(), r.api, "default", "p4", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	r.start()
	restarted := 0
	for i := range 4 {
		pod := r.eventually(fmt.Sprint("p", i), "running", running)
		if c := pod.Status.ContainerStatuses[0]; c.RestartCount == 1 && c.LastTerminationState.Terminated.ExitCode == 7 {
			restarted++
		}
	}
	r.wait("the exit is seen", func() bool {
		restarted = 0
		for i := range 4 {
			pod, _ := client.Pods.Get(t.Context(), r.api, "default", fmt.Sprint("p", i))
			if c := pod.Status.ContainerStatuses[0]; c.RestartCount == 1 && c.LastTerminationState.Terminated.ExitCode == 7 {
				restarted++
			}
		}
		all, _ := r.rt.Sandboxes()
		return restarted+all >= 4
	})
	r.wait("the deleted pod is ended", func() bool { all, _ := r.rt.Sandboxes(); return all == 4 })
	for _, call := range r.rt.Calls()[len(before):] {
		if strings.HasPrefix(call, "sandbox") {
			t.Errorf("a sandbox was made anew: %s", call)
		}
	}
}

func TestStaticContainersStayStarted(t *testing.T) {
	r := newRig(t)
	r.stop()
	dir := t.TempDir()
	r.cfg.Settings.StaticPodPath = dir
	r.cfg.DefaultPod = func(p *corev1.Pod) {
		probe := func(command string) *corev1.Probe {
			return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{command}}}, PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 100}
		}
		p.Spec = testPod(p.Name, nil).Spec
		p.Spec.Containers[0].StartupProbe, p.Spec.Containers[0].ReadinessProbe = probe("startup"), probe("readiness")
	}
	manifest := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "app", "image": "app:v1"}]}}`
	if err := os.WriteFile(filepath.Join(dir, "web.json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	var again atomic.Bool
	var asked atomic.Int32
	r.rt.ExecFunc = func(_ string, cmd []string) (string, int32, error) {
		if !again.Load() {
			return "", 0, nil
		}
		asked.Add(1)
		if cmd[0] == "startup" {
			return "", 1, nil // it isn't known yet
		}
		return "", 0, nil
	}
	r.start()
	name := "web-" + testNode
	r.eventually(name, "running", running)
	r.stop()
	again.Store(true)
	before := len(r.api.Writes())
	r.start()
	r.wait("the probes run again", func() bool { return asked.Load() > 1 })
	pod := r.eventually(name, "there", func(p *corev1.Pod) bool { return p != nil })
	if c := pod.Status.ContainerStatuses[0]; c.Started == nil || !*c.Started || !c.Ready {
		t.Errorf("container = %+v, want it started and ready", c)
	}
	for _, w := range r.api.Writes()[before:] {
		if p, ok := w.Object.(*corev1.Pod); ok && p.Name == name && w.Subresource == "status" && !*p.Status.ContainerStatuses[0].Started {
			t.Error("it was told to have not started")
		}
	}
}

func TestAStaticPodComesWhenItsFormerVersionIsGone(t *testing.T) {
	r := newRig(t)
	r.stop()
	dir := t.TempDir()
	r.cfg.Settings.StaticPodPath = dir
	r.cfg.DefaultPod = func(p *corev1.Pod) {
		p.Spec = testPod(p.Name, nil).Spec
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"leave"}}}}
	}
	asked, leave := make(chan struct{}, 1), make(chan struct{})
	r.rt.ExecFunc = func(string, []string) (string, int32, error) {
		asked <- struct{}{}
		<-leave
		return "", 0, nil
	}
	write := func(version string) {
		t.Helper()
		manifest := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "labels": {"version": "` + version + `"}}, "spec": {"containers": [{"name": "app", "image": "app:v1"}]}}`
		if err := os.WriteFile(filepath.Join(dir, "web.json"), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	r.start()
	name := "web-" + testNode
	former := r.eventually(name, "running", running)
	write("second")
	<-asked
	if now, err := client.Pods.Get(t.Context(), r.api, "default", name); err != nil || now.UID != former.UID {
		t.Errorf("the mirror of a pod that ends is gone: %v", err)
	}
	if all, _ := r.rt.Sandboxes(); all != 1 {
		t.Errorf("there are %d sandboxes", all)
	}
	close(leave)
	r.eventually(name, "replaced", func(p *corev1.Pod) bool { return p != nil && p.Labels["version"] == "second" && running(p) })
}

func TestAStaticPodThatIsBackStartsAgain(t *testing.T) {
	r := newRig(t)
	r.stop()
	dir := t.TempDir()
	r.cfg.Settings.StaticPodPath = dir
	r.cfg.DefaultPod = func(p *corev1.Pod) { p.Spec = testPod(p.Name, nil).Spec }
	file := filepath.Join(dir, "web.json")
	write := func() {
		t.Helper()
		manifest := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "app", "image": "app:v1"}]}}`
		if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	r.start()
	name := "web-" + testNode
	r.eventually(name, "running", running)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write()
	r.eventually(name, "restarted", func(p *corev1.Pod) bool {
		return p != nil && running(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
}

func TestImagesThatAreMissingAreToldOf(t *testing.T) {
	r := newRig(t)
	r.create(testPod("pull", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nothere:v1" }))
	r.eventually("pull", "ErrImagePull", func(p *corev1.Pod) bool { return waitsFor(p, "ErrImagePull") })
	pod := r.eventually("pull", "ImagePullBackOff", func(p *corev1.Pod) bool { return waitsFor(p, "ImagePullBackOff") })
	if m := pod.Status.ContainerStatuses[0].State.Waiting.Message; !strings.HasPrefix(m, `Back-off pulling image "nothere:v1": ErrImagePull: `) {
		t.Errorf("message = %q", m)
	}
	r.create(testPod("never", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "nothere:v1", corev1.PullNever
	}))
	r.eventually("never", "ErrImageNeverPull", func(p *corev1.Pod) bool { return waitsFor(p, "ErrImageNeverPull") })
}

func waitsFor(p *corev1.Pod, reason string) bool {
	return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
}

func TestAMissingConfigMapIsWaitedFor(t *testing.T) {
	r := newRig(t)
	mode := int32(0o644)
	r.create(testPod("cm", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "late"}, DefaultMode: &mode}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/etc/v"}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "late"}, Key: "a"}}}}
	}))
	r.wait("the failure is told of", func() bool { return len(r.events("FailedMount")) > 0 })
	if m := r.events("FailedMount")[0]; m != `MountVolume.SetUp failed for volume "v" : configmap "late" not found` {
		t.Errorf("message = %q", m)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late", Namespace: "default"}, Data: map[string]string{"a": "1"}}
	created, err := client.ConfigMaps.Create(t.Context(), r.api, cm)
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("cm", "running", running)
	ids, _ := r.rt.Containers("app")
	config := r.rt.Config(ids[0])
	if !slices.ContainsFunc(config.Envs, func(e *runtimeapi.KeyValue) bool { return e.Key == "A" && string(e.Value) == "1" }) {
		t.Errorf("env = %v", config.Envs)
	}
	file := filepath.Join(config.Mounts[0].HostPath, "a")
	if data, err := os.ReadFile(file); err != nil || string(data) != "1" {
		t.Fatalf("volume holds %q, %v", data, err)
	}
	changed := created.DeepCopy()
	changed.Data["a"] = "2"
	if _, err := client.ConfigMaps.Update(t.Context(), r.api, changed); err != nil {
		t.Fatal(err)
	}
	r.wait("the change reaches the volume", func() bool { data, _ := os.ReadFile(file); return string(data) == "2" })
}

func TestAKilledContainersEndIsNotToldWhileItStartsAgain(t *testing.T) {
	r := newRig(t)
	var sick atomic.Bool
	sick.Store(true)
	r.rt.ExecFunc = func(string, []string) (string, int32, error) {
		if sick.Load() {
			return "sick", 1, nil
		}
		return "", 0, nil
	}
	r.create(testPod("live", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
			PeriodSeconds: 1, FailureThreshold: 1, SuccessThreshold: 1, TimeoutSeconds: 1}
	}))
	r.eventually("live", "running", running)
	r.wait("the container is stopped to be started again", func() bool { return len(r.events("Killing")) > 0 })
	sick.Store(false)
	pod := r.eventually("live", "restarted", func(p *corev1.Pod) bool {
		if state := p.Status.ContainerStatuses[0].State; state.Terminated != nil {
			t.Errorf("an end is told: %+v", state.Terminated)
		}
		return running(p) && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		t.Errorf("last state = %+v, want the end with code 0", last)
	}
}

func TestAHookGoesOnUntilItsContainerIsStopped(t *testing.T) {
	r := newRig(t)
	stopped := make(chan bool, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		<-req.Context().Done()
		stopped <- slices.ContainsFunc(r.rt.Calls(), func(call string) bool { return strings.HasPrefix(call, "stop app") })
	}))
	defer hook.Close()
	pod := r.create(testPod("slow", func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = new(int64(1))
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Host: "127.0.0.1", Port: intstr.FromInt(hook.Listener.Addr().(*net.TCPAddr).Port), Path: "/", Scheme: corev1.URISchemeHTTP,
		}}}
	}))
	r.eventually("slow", "running", running)
	if err := client.Pods.Delete(t.Context(), r.api, pod.Namespace, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if !<-stopped {
		t.Error("the hook is cut short before the container is stopped")
	}
	r.eventually("slow", "gone", gone)
}

func TestALivenessProbeThatFailsRestarts(t *testing.T) {
	r := newRig(t)
	r.rt.ExecFunc = func(id string, cmd []string) (string, int32, error) {
		ids, _ := r.rt.Containers("app")
		if id == ids[0] {
			return "sick", 1, nil
		}
		return "", 0, nil
	}
	r.create(testPod("live", func(p *corev1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
			PeriodSeconds: 1, FailureThreshold: 1, SuccessThreshold: 1, TimeoutSeconds: 1}
	}))
	r.eventually("live", "restarted", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	r.wait("events are written", func() bool { return len(r.events("Unhealthy")) > 0 && len(r.events("Killing")) > 0 })
	if m := r.events("Unhealthy")[0]; m != "Liveness probe failed: sick" {
		t.Errorf("message = %q", m)
	}
	if m := r.events("Killing")[0]; m != "Container app failed liveness probe, will be restarted" {
		t.Errorf("message = %q", m)
	}
}

func TestTheNodeIsRegisteredAndReady(t *testing.T) {
	begun := time.Now()
	r := newRig(t)
	var n *corev1.Node
	r.wait("node ready", func() bool {
		var err error
		n, err = client.Nodes.Get(t.Context(), r.api, "", testNode)
		return err == nil && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	t.Logf("ready after %v", time.Since(begun))
	if n.Labels[corev1.LabelHostname] != testNode || n.Status.Capacity.Cpu().IsZero() || n.Status.NodeInfo.ContainerRuntimeVersion != "fake://1.0" {
		t.Errorf("node = %+v", n)
	}
	changed := n.DeepCopy()
	changed.Spec.PodCIDR, changed.Spec.PodCIDRs = "10.1.0.0/24", []string{"10.1.0.0/24"}
	if _, err := client.Nodes.Update(t.Context(), r.api, changed); err != nil {
		t.Fatal(err)
	}
	r.wait("the runtime knows the range", func() bool { return r.rt.Ranges() == "10.1.0.0/24" })
	r.wait("the lease is there", func() bool {
		_, err := client.Leases.Get(t.Context(), r.api, corev1.NamespaceNodeLease, testNode)
		return err == nil
	})
}

func TestResourcesChangeInPlace(t *testing.T) {
	r := newRig(t)
	list := func(cpu string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	r.create(testPod("grow", func(p *corev1.Pod) {
		p.Generation = 1
		p.Status.QOSClass = corev1.PodQOSBurstable
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("100m"), Limits: list("200m")}
	}))
	r.eventually("grow", "running", running)
	change := func(cpu string, generation int64) {
		t.Helper()
		fresh, err := client.Pods.Get(t.Context(), r.api, "default", "grow")
		if err != nil {
			t.Fatal(err)
		}
		next := fresh.DeepCopy()
		next.Generation = generation
		next.Spec.Containers[0].Resources.Requests = list(cpu)
		if _, err := client.Pods.Update(t.Context(), r.api, next); err != nil {
			t.Fatal(err)
		}
	}
	change("150m", 2)
	pod := r.eventually("grow", "resized", func(p *corev1.Pod) bool {
		c := p.Status.ContainerStatuses[0]
		return c.AllocatedResources.Cpu().MilliValue() == 150 && resizeCondition(p, corev1.PodResizeInProgress) == nil
	})
	if c := pod.Status.ContainerStatuses[0]; c.RestartCount != 0 {
		t.Errorf("the container was restarted: %+v", c)
	}
	if !slices.Contains(r.rt.Calls(), "resize app 153") {
		t.Errorf("calls = %q", r.rt.Calls())
	}
	change("9000", 3)
	pod = r.eventually("grow", "refused", func(p *corev1.Pod) bool { return resizeCondition(p, corev1.PodResizePending) != nil })
	if c := resizeCondition(pod, corev1.PodResizePending); c.Reason != corev1.PodReasonInfeasible || !strings.HasPrefix(c.Message, "Node didn't have enough capacity: cpu, requested: 9000000, capacity: ") {
		t.Errorf("condition = %+v", c)
	}
	if got := pod.Status.ContainerStatuses[0].AllocatedResources.Cpu().MilliValue(); got != 150 {
		t.Errorf("allocated = %dm", got)
	}
}

func resizeCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func TestAClosedGateHidesWhatAPodAsksForAsAWhole(t *testing.T) {
	pod := testPod("whole", func(p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}}
	})
	for open, want := range map[bool]int64{true: 64 << 20, false: 0} {
		k := &Kubelet{}
		k.cfg.Settings = &kubeletconfig.KubeletConfiguration{FeatureGates: map[string]bool{"PodLevelResources": open}}
		if got := cgroups.PodLimits(k.withoutUnknown(pod), 0).Memory; got != want {
			t.Errorf("open %v: the pod's limit is %d, want %d", open, got, want)
		}
	}
	if pod.Spec.Resources == nil {
		t.Error("the shared pod was changed")
	}
}
