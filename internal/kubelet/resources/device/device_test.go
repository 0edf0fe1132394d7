package device

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

const testResource = "example.com/dev"

// fakePlugin is a plugin in the test's process.
type fakePlugin struct {
	pluginapi.UnimplementedDevicePluginServer
	options *pluginapi.DevicePluginOptions
	lists   chan []*pluginapi.Device
	server  *grpc.Server

	mu     sync.Mutex
	calls  []string
	prefer []string
	refuse error
}

func device(id, health string, nodes ...int64) *pluginapi.Device {
	d := &pluginapi.Device{ID: id, Health: health}
	if len(nodes) > 0 {
		d.Topology = &pluginapi.TopologyInfo{}
	}
	for _, n := range nodes {
		d.Topology.Nodes = append(d.Topology.Nodes, &pluginapi.NUMANode{ID: n})
	}
	return d
}

func (p *fakePlugin) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

func (p *fakePlugin) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return p.options, nil
}

func (p *fakePlugin) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case list := <-p.lists:
			if err := stream.Send(&pluginapi.ListAndWatchResponse{Devices: list}); err != nil {
				return err
			}
		}
	}
}

func (p *fakePlugin) GetPreferredAllocation(_ context.Context, r *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	p.note("prefer of %v with %v", r.ContainerRequests[0].AvailableDeviceIDs, r.ContainerRequests[0].MustIncludeDeviceIDs)
	return &pluginapi.PreferredAllocationResponse{ContainerResponses: []*pluginapi.ContainerPreferredAllocationResponse{{DeviceIDs: p.prefer}}}, nil
}

func (p *fakePlugin) Allocate(_ context.Context, r *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	ids := r.ContainerRequests[0].DevicesIds
	p.note("allocate %v", ids)
	if p.refuse != nil {
		return nil, p.refuse
	}
	return &pluginapi.AllocateResponse{ContainerResponses: []*pluginapi.ContainerAllocateResponse{{
		Envs: map[string]string{"DEVICES": strings.Join(ids, ",")}, Annotations: map[string]string{"dev": "yes"},
		Mounts:     []*pluginapi.Mount{{HostPath: "/host/lib", ContainerPath: "/lib/dev", ReadOnly: true}},
		Devices:    []*pluginapi.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/" + ids[0], Permissions: "rw"}},
		CdiDevices: []*pluginapi.CDIDevice{{Name: testResource + "=" + ids[0]}},
	}}}, nil
}

func (p *fakePlugin) PreStartContainer(_ context.Context, r *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	p.note("start %v", r.DevicesIds)
	return &pluginapi.PreStartContainerResponse{}, nil
}

// rig is a manager with the means to give it plugins.
type rig struct {
	t        *testing.T
	m        *Manager
	cfg      Config
	cancel   context.CancelFunc
	affinity topology.Mask
	running  bool
	sick     chan []types.UID
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "devices") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, sick: make(chan []types.UID, 10)}
	t.Cleanup(func() { r.stop(); os.RemoveAll(dir) })
	r.cfg = Config{
		Dir: dir, Nodes: []int{0, 1}, Affinity: func(types.UID, string) topology.Hint { return topology.Hint{Nodes: r.affinity} },
		Running: func(types.UID, string) bool { return r.running }, Changed: func() {}, Sick: func(uids []types.UID) { r.sick <- uids },
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	r.cfg.Metrics = metrics.New(prometheus.NewRegistry())
	r.m = New(r.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if err := r.m.Start(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stop() {
	r.cancel()
	r.m.Wait()
}

// plug starts a plugin and registers it as its author would.
func (r *rig) plug(options *pluginapi.DevicePluginOptions, devices ...*pluginapi.Device) *fakePlugin {
	r.t.Helper()
	p := &fakePlugin{options: options, lists: make(chan []*pluginapi.Device, 10), server: grpc.NewServer()}
	p.lists <- devices
	endpoint := fmt.Sprintf("plugin-%d.sock", time.Now().UnixNano())
	l, err := net.Listen("unix", filepath.Join(r.cfg.Dir, endpoint))
	if err != nil {
		r.t.Fatal(err)
	}
	pluginapi.RegisterDevicePluginServer(p.server, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.server.Serve(l) })
	r.t.Cleanup(func() { p.server.Stop(); wg.Wait() })
	if err := r.register(pluginapi.Version, testResource, endpoint); err != nil {
		r.t.Fatal(err)
	}
	r.await("devices listed", func() bool { c, _ := r.m.Capacity(); q := c[testResource]; return int(q.Value()) == len(devices) })
	return p
}

func (r *rig) register(version, name, endpoint string) error {
	r.t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(r.cfg.Dir, socket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_, err = pluginapi.NewRegistrationClient(conn).Register(r.t.Context(), &pluginapi.RegisterRequest{Version: version, ResourceName: name, Endpoint: endpoint})
	return err
}

func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (r *rig) capacity() string {
	c, a := r.m.Capacity()
	all, good := c[testResource], a[testResource]
	return fmt.Sprintf("%d/%d", good.Value(), all.Value())
}

func testPod(name string, init, app int64) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.UID = types.UID("uid-" + name)
	c := func(name string, count int64) corev1.Container {
		return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{testResource: *resource.NewQuantity(count, resource.DecimalSI)}}}
	}
	if init > 0 {
		pod.Spec.InitContainers = []corev1.Container{c("init", init)}
	}
	pod.Spec.Containers = []corev1.Container{c("app", app)}
	return pod
}

func (r *rig) admit(pod *corev1.Pod) error {
	for c := range topology.Containers(pod) {
		if err := r.m.Allocate(r.t.Context(), pod, c); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) has(pod *corev1.Pod, container string) string {
	var ids []string
	for _, d := range r.m.Given(pod.UID, container) {
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, ",")
}

func TestDevicesAreGivenAndTaken(t *testing.T) {
	r := newRig(t)
	p := r.plug(nil, device("a", "Healthy"), device("b", "Healthy"), device("c", "Unhealthy"))
	if got := r.capacity(); got != "2/3" {
		t.Errorf("capacity %s", got)
	}
	first, second := testPod("first", 0, 1), testPod("second", 0, 2)
	if err := r.admit(first); err != nil {
		t.Fatal(err)
	}
	o, err := r.m.Options(t.Context(), first, &first.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Env) != 1 || o.Env[0].Value != "a" || len(o.Mounts) != 1 || !o.Mounts[0].Readonly || len(o.Devices) != 1 || o.Devices[0].ContainerPath != "/dev/a" || o.CDI[0].Name != testResource+"=a" || o.Annotations["dev"] != "yes" {
		t.Errorf("options %+v", o)
	}
	if err := r.admit(second); err == nil || err.Error() != "requested number of devices unavailable for example.com/dev. Requested: 2, Available: 1" {
		t.Errorf("two of one: %v", err)
	}
	covered := r.m.Cover(first.UID, corev1.ResourceList{})
	if q := covered[testResource]; q.Value() != 1 {
		t.Errorf("a pod with a device finds %v on its node", covered)
	}
	r.m.Keep(map[types.UID]*corev1.Pod{second.UID: second})
	if err := r.admit(second); err != nil || r.has(second, "app") != "a,b" {
		t.Errorf("after the first has gone: %v, %s", err, r.has(second, "app"))
	}
	if want := []string{"allocate [a]", "allocate [a b]"}; !slices.Equal(p.calls, want) {
		t.Errorf("calls %q, not %q", p.calls, want)
	}
}

func TestInitContainersDevicesAreReused(t *testing.T) {
	r := newRig(t)
	r.plug(nil, device("a", "Healthy"), device("b", "Healthy"))
	pod := testPod("p", 2, 1)
	if err := r.admit(pod); err != nil {
		t.Fatal(err)
	}
	if r.has(pod, "init") != "a,b" || r.has(pod, "app") != "a" {
		t.Errorf("init has %s, app %s", r.has(pod, "init"), r.has(pod, "app"))
	}
}

func TestAPluginHasASay(t *testing.T) {
	r := newRig(t)
	p := r.plug(&pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true, PreStartRequired: true},
		device("a", "Healthy", 0), device("b", "Healthy", 1), device("c", "Healthy", 1), device("d", "Healthy"))
	p.prefer = []string{"c"}
	r.affinity = topology.MaskOf(1)
	pod := testPod("p", 0, 1)
	if err := r.admit(pod); err != nil {
		t.Fatal(err)
	}
	if _, err := r.m.Options(t.Context(), pod, &pod.Spec.Containers[0]); err != nil {
		t.Fatal(err)
	}
	if want := []string{"prefer of [b c] with []", "allocate [c]", "start [c]"}; !slices.Equal(p.calls, want) {
		t.Errorf("calls %q, not %q", p.calls, want)
	}
	big := testPod("big", 0, 2) // more than are left near the affinity's node: all of those, then as the plugin says
	p.prefer = []string{"d"}
	if err := r.admit(big); err != nil || r.has(big, "app") != "b,d" {
		t.Errorf("%v, %s", err, r.has(big, "app"))
	}
}

func TestHintsFollowTheDevices(t *testing.T) {
	r := newRig(t)
	r.plug(nil, device("a", "Healthy", 0), device("b", "Healthy", 1), device("c", "Healthy", 1))
	pod := testPod("p", 0, 2)
	want := []topology.Hint{{Nodes: topology.MaskOf(1), Preferred: true}, {Nodes: topology.MaskOf(0, 1)}}
	if got := r.m.Hints(pod, &pod.Spec.Containers[0])[testResource]; !slices.Equal(got, want) {
		t.Errorf("hints %v, not %v", got, want)
	}
	if got := r.m.PodHints(pod)[testResource]; !slices.Equal(got, want) {
		t.Errorf("the pod's hints %v, not %v", got, want)
	}
	if got := r.m.Hints(testPod("q", 0, 4), &testPod("q", 0, 4).Spec.Containers[0])[testResource]; got == nil || len(got) != 0 {
		t.Errorf("more than there are: %v", got)
	}
}

func TestHealthReachesThePod(t *testing.T) {
	r := newRig(t)
	p := r.plug(nil, device("a", "Healthy"))
	pod := testPod("p", 0, 1)
	if err := r.admit(pod); err != nil {
		t.Fatal(err)
	}
	p.lists <- []*pluginapi.Device{device("a", "Unhealthy")}
	if got := <-r.sick; !slices.Equal(got, []types.UID{pod.UID}) {
		t.Errorf("sick are %v", got)
	}
	status := &corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app"}}}
	r.m.Health(pod.UID, status)
	if got := status.ContainerStatuses[0].AllocatedResourcesStatus; len(got) != 1 || got[0].Resources[0].ResourceID != "a" || got[0].Resources[0].Health != corev1.ResourceHealthStatusUnhealthy {
		t.Errorf("status %+v", got)
	}
	if err := r.admit(testPod("q", 0, 1)); err == nil || err.Error() != "no healthy devices present; cannot allocate unhealthy devices example.com/dev" {
		t.Errorf("a sick device: %v", err)
	}
}

func TestWhatWasGivenOutlivesTheKubelet(t *testing.T) {
	r := newRig(t)
	r.plug(nil, device("a", "Healthy"), device("b", "Healthy"))
	pod := testPod("p", 0, 1)
	if err := r.admit(pod); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.start()
	if got := r.capacity(); got != "0/0" {
		t.Errorf("before the plugin is back: %s", got)
	}
	if r.has(pod, "app") != "a" {
		t.Errorf("the container has %q", r.has(pod, "app"))
	}
	r.running = true
	if err := r.admit(pod); err != nil {
		t.Errorf("a container that runs: %v", err)
	}
	r.running = false
	if err := r.admit(pod); err == nil || err.Error() != "no healthy devices present; cannot allocate unhealthy devices example.com/dev" {
		t.Errorf("one that has to start, as after a reboot: %v", err)
	}
	entries, err := filepath.Glob(filepath.Join(r.cfg.Dir, "plugin-*.sock"))
	if err != nil || len(entries) > 0 {
		t.Errorf("sockets that tell plugins nothing: %v, %v", entries, err)
	}
	p := r.plug(nil, device("a", "Healthy"), device("b", "Healthy"))
	if err := r.admit(pod); err != nil || r.has(pod, "app") != "a" || len(p.calls) > 0 {
		t.Errorf("%v, %s, %q", err, r.has(pod, "app"), p.calls)
	}
	other := testPod("q", 0, 1)
	if err := r.admit(other); err != nil || r.has(other, "app") != "b" {
		t.Errorf("%v, %s", err, r.has(other, "app"))
	}
}

func TestAPluginThatGoesTakesItsDevicesAlong(t *testing.T) {
	r := newRig(t)
	p := r.plug(nil, device("a", "Healthy"))
	p.server.Stop()
	r.await("the plugin is missed", func() bool { return r.capacity() == "0/1" })
	r.plug(nil, device("a", "Healthy"), device("b", "Healthy"))
	if got := r.capacity(); got != "2/2" {
		t.Errorf("with another plugin: %s", got)
	}
	r.m.mu.Lock()
	r.m.kinds["example.com/gone"] = &kind{lost: time.Now().Add(-absence - time.Second)}
	r.m.mu.Unlock()
	c, _ := r.m.Capacity()
	if q, ok := c["example.com/gone"]; !ok || !q.IsZero() {
		t.Errorf("a resource that has gone: %v", c)
	}
}

func TestRegistrationsAreJudged(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct{ version, name, want string }{
		{"v1alpha1", testResource, `requested API version "v1alpha1" is not supported by kubelet. Supported version is ["v1beta1"]`},
		{"v1beta1", "cpu", `the ResourceName "cpu" is invalid`},
		{"v1beta1", "kubernetes.io/dev", `the ResourceName "kubernetes.io/dev" is invalid`},
	} {
		if err := r.register(tc.version, tc.name, "none.sock"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v", tc, err)
		}
	}
	if err := r.m.Validate(testResource, "", []string{"v1"}); err == nil || err.Error() != "manager version, v1beta1, is not among plugin supported versions [v1]" {
		t.Error(err)
	}
}

func TestAStateFileIsUpstreams(t *testing.T) {
	for _, dir := range []string{"none", "given"} {
		t.Run(dir, func(t *testing.T) {
			path := filepath.Join("testdata", dir, stateFile)
			g, registered, absent, err := load(path)
			if err != nil || absent || !slices.Equal(registered, []string{testResource}) {
				t.Fatalf("%v %v %v", registered, absent, err)
			}
			written := filepath.Join(t.TempDir(), stateFile)
			if err := save(written, g, map[string][]string{testResource: {"a", "b"}}); err != nil {
				t.Fatal(err)
			}
			want, _ := os.ReadFile(path)
			if got, err := os.ReadFile(written); err != nil || string(got) != string(want) {
				t.Errorf("written anew it is %s, %v; it was %s", got, err, want)
			}
		})
	}
}
