package dra

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"

	"clipper.dev/clipper/internal/client/clienttest"
)

// fakeDriver prepares whatever it is asked to.
type fakeDriver struct {
	drapb.UnimplementedDRAPluginServer
	mu    sync.Mutex
	calls []string
	fail  string
}

func (d *fakeDriver) NodePrepareResources(_ context.Context, in *drapb.NodePrepareResourcesRequest) (*drapb.NodePrepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &drapb.NodePrepareResourcesResponse{Claims: map[string]*drapb.NodePrepareResourceResponse{}}
	for _, c := range in.Claims {
		d.calls = append(d.calls, "prepare "+c.Name)
		out.Claims[c.Uid] = &drapb.NodePrepareResourceResponse{Error: d.fail, Devices: []*drapb.Device{
			{PoolName: "n", DeviceName: "x", RequestNames: []string{"r"}, CdiDeviceIds: []string{"v/c=x"}},
			{PoolName: "n", DeviceName: "y", RequestNames: []string{"s"}, CdiDeviceIds: []string{"v/c=y"}},
		}}
	}
	return out, nil
}

func (d *fakeDriver) NodeUnprepareResources(_ context.Context, in *drapb.NodeUnprepareResourcesRequest) (*drapb.NodeUnprepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &drapb.NodeUnprepareResourcesResponse{Claims: map[string]*drapb.NodeUnprepareResourceResponse{}}
	for _, c := range in.Claims {
		d.calls = append(d.calls, "unprepare "+c.Name)
		out.Claims[c.Uid] = &drapb.NodeUnprepareResourceResponse{}
	}
	return out, nil
}

func (d *fakeDriver) told() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.calls = nil }()
	return strings.Join(d.calls, ", ")
}

// node is a directory with a driver's socket, and the API with a claim that pods p and q have reserved.
type node struct {
	t      *testing.T
	dir    string
	driver *fakeDriver
	api    *clienttest.Client
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), driver: &fakeDriver{}}
	n.api = clienttest.New(&resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "claim"},
		Status: resourcev1.ResourceClaimStatus{
			Allocation:  &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: "d", Pool: "n", Device: "x"}}}},
			ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "p"}, {Resource: "pods", Name: "q", UID: "q"}},
		},
	})
	l, err := net.Listen("unix", filepath.Join(n.dir, "dra.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	drapb.RegisterDRAPluginServer(s, n.driver)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return n
}

// manager starts one, as a kubelet does when it starts.
func (n *node) manager() *Manager {
	n.t.Helper()
	m, err := New(Config{
		Dir: n.dir, NodeName: "n", Client: n.api, Registered: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		Active:        func() (map[types.UID]bool, bool) { return map[types.UID]bool{"q": true}, true },
		HealthChanged: func(types.UID) {}, Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(func() { cancel(); m.Wait() })
	m.Start(ctx)
	if err := m.Register(ctx, "d", filepath.Join(n.dir, "dra.sock"), []string{drapb.DRAPluginService}); err != nil {
		n.t.Fatal(err)
	}
	return m
}

func podOf(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{
		ResourceClaims: []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: new("c")}},
		Containers: []corev1.Container{
			{Name: "all", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "mine"}}}},
			{Name: "one", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "mine", Request: "s"}}}}, {Name: "none"},
		}}}
}

func devicesOf(t *testing.T, m *Manager, pod *corev1.Pod, container int) string {
	t.Helper()
	devices, err := m.Devices(pod, &pod.Spec.Containers[container])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

func TestAClaimIsPreparedOnceForAllWhoShareItAndSurvivesTheKubelet(t *testing.T) {
	n := newNode(t)
	m, p, q := n.manager(), podOf("p"), podOf("q")
	for _, pod := range []*corev1.Pod{p, q} {
		if err := m.Prepare(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.driver.told(); got != "prepare c" {
		t.Errorf("the driver was told to %s", got)
	}
	if all, one, none := devicesOf(t, m, p, 0), devicesOf(t, m, p, 1), devicesOf(t, m, p, 2); all != "v/c=x v/c=y" || one != "v/c=y" || none != "" {
		t.Errorf("containers get %q, %q, %q", all, one, none)
	}
	m = n.manager() // the kubelet was killed
	if got := devicesOf(t, m, q, 0); got != "v/c=x v/c=y" {
		t.Errorf("after a restart a container gets %q", got)
	}
	m.sweep(t.Context()) // p went unseen
	if got := n.driver.told(); got != "" {
		t.Errorf("while another pod uses the claim the driver was told to %s", got)
	}
	if err := m.Unprepare(t.Context(), "q"); err != nil {
		t.Fatal(err)
	}
	if got := n.driver.told(); got != "unprepare c" {
		t.Errorf("after the last pod the driver was told to %s", got)
	}
	if again, err := openClaims(n.dir); err != nil || len(again.all) > 0 {
		t.Errorf("on disk there is %v, %v", again, err)
	}
}

func TestAFailedPreparationIsRememberedAndTriedAgain(t *testing.T) {
	n := newNode(t)
	m, p := n.manager(), podOf("p")
	n.driver.fail = "broken"
	if err := m.Prepare(t.Context(), p); err == nil || err.Error() != "prepare dynamic resources: NodePrepareResources failed for ResourceClaim c: broken" {
		t.Errorf("got %v", err)
	}
	n.driver.told()
	m = n.manager()
	n.driver.fail = ""
	if err := m.Prepare(t.Context(), p); err != nil {
		t.Error(err)
	}
	if got := n.driver.told(); got != "prepare c" {
		t.Errorf("the driver was told to %s", got)
	}
}

func TestWhatAPodMayNotUseIsNotPrepared(t *testing.T) {
	n := newNode(t)
	m := n.manager()
	if err := m.Prepare(t.Context(), podOf("stranger")); err == nil || !strings.Contains(err.Error(), "is not allowed to use ResourceClaim c (claim)") {
		t.Errorf("got %v", err)
	}
	m.Deregister(t.Context(), "d", filepath.Join(n.dir, "dra.sock"))
	if err := m.Prepare(t.Context(), podOf("p")); err == nil || err.Error() != "prepare dynamic resources: DRA driver d is not registered" {
		t.Errorf("without its driver: got %v", err)
	}
}
