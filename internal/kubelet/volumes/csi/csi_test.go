package csi

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

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// fake is a driver that notes what it is asked. It publishes directories, and mounts nothing.
type fake struct {
	csipb.UnimplementedNodeServer
	mu      sync.Mutex
	calls   []string
	context map[string]string // of the last publication
}

func (f *fake) note(call, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call+" "+id)
}

func (f *fake) took() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := strings.Join(f.calls, ", ")
	f.calls = nil
	return out
}

func (f *fake) NodeGetCapabilities(context.Context, *csipb.NodeGetCapabilitiesRequest) (*csipb.NodeGetCapabilitiesResponse, error) {
	out := &csipb.NodeGetCapabilitiesResponse{}
	for _, c := range []csipb.NodeServiceCapability_RPC_Type{csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csipb.NodeServiceCapability_RPC_EXPAND_VOLUME} {
		out.Capabilities = append(out.Capabilities, &csipb.NodeServiceCapability{Type: &csipb.NodeServiceCapability_Rpc{Rpc: &csipb.NodeServiceCapability_RPC{Type: c}}})
	}
	return out, nil
}

func (f *fake) NodeGetInfo(context.Context, *csipb.NodeGetInfoRequest) (*csipb.NodeGetInfoResponse, error) {
	return &csipb.NodeGetInfoResponse{NodeId: "node-id", MaxVolumesPerNode: 7, AccessibleTopology: &csipb.Topology{Segments: map[string]string{"example.com/rack": "r1"}}}, nil
}

func (f *fake) NodeStageVolume(_ context.Context, r *csipb.NodeStageVolumeRequest) (*csipb.NodeStageVolumeResponse, error) {
	f.note("stage", r.VolumeId)
	return &csipb.NodeStageVolumeResponse{}, nil
}

func (f *fake) NodeUnstageVolume(_ context.Context, r *csipb.NodeUnstageVolumeRequest) (*csipb.NodeUnstageVolumeResponse, error) {
	f.note("unstage", r.VolumeId)
	return &csipb.NodeUnstageVolumeResponse{}, nil
}

func (f *fake) NodePublishVolume(_ context.Context, r *csipb.NodePublishVolumeRequest) (*csipb.NodePublishVolumeResponse, error) {
	f.note("publish", r.VolumeId)
	f.mu.Lock()
	f.context = r.VolumeContext
	f.mu.Unlock()
	return &csipb.NodePublishVolumeResponse{}, os.MkdirAll(r.TargetPath, 0o755)
}

func (f *fake) NodeUnpublishVolume(_ context.Context, r *csipb.NodeUnpublishVolumeRequest) (*csipb.NodeUnpublishVolumeResponse, error) {
	f.note("unpublish", r.VolumeId)
	return &csipb.NodeUnpublishVolumeResponse{}, os.RemoveAll(r.TargetPath)
}

func (f *fake) NodeExpandVolume(_ context.Context, r *csipb.NodeExpandVolumeRequest) (*csipb.NodeExpandVolumeResponse, error) {
	f.note(fmt.Sprintf("expand to %d", r.CapacityRange.RequiredBytes), r.VolumeId)
	return &csipb.NodeExpandVolumeResponse{}, nil
}

// host knows no objects but those that volumes of drivers name.
type host struct{ volumes.Host }

func (host) Secret(context.Context, string, string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), "none")
}

// rig is a plugin with a driver, on a node of a cluster in memory.
type rig struct {
	*testing.T
	root, socket string
	client       *clienttest.Client
	driver       *fake
}

func newRig(t *testing.T, info storagev1.CSIDriverSpec) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{T: t, root: dir, socket: filepath.Join(dir, "csi.sock"), driver: &fake{}}
	r.client = clienttest.New(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "node-uid"}},
		&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: info},
		&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("h", "d", "n")}, Status: storagev1.VolumeAttachmentStatus{Attached: true}},
	)
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	csipb.RegisterNodeServer(s, r.driver)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return r
}

// start makes a plugin as a kubelet does that starts.
func (r *rig) start() *Plugin {
	r.Helper()
	p, err := New(Config{
		Root: r.root, NodeName: "n", Client: r.client, Host: host{}, UseChanged: func() {},
		Token: func(_ context.Context, _ *corev1.Pod, audience string, _ *int64) (authenticationv1.TokenRequestStatus, error) {
			return authenticationv1.TokenRequestStatus{Token: "token for " + audience}, nil
		},
		Attached: func(context.Context, corev1.UniqueVolumeName) error { return nil },
		Events:   events.New(events.Config{Client: r.client, Component: "kubelet", Logger: slog.New(slog.DiscardHandler)}),
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.Fatal(err)
	}
	if err := p.Register(r.Context(), "d", r.socket, []string{"1.0.0"}); err != nil {
		r.Fatal(err)
	}
	return p
}

func (r *rig) request(pod string, change func(*volumes.Request)) *volumes.Request {
	req := &volumes.Request{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: pod, UID: "uid-1"}}, Host: host{}}
	req.Volume = &corev1.Volume{Name: "v"}
	req.Dir = filepath.Join(r.root, "pods", pod, "volumes", "kubernetes.io~csi", "pv")
	req.PV = &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	req.PV.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	req.PV.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Ki")}
	req.PV.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}
	change(req)
	return req
}

func (r *rig) expect(what, want string) {
	r.Helper()
	if got := r.driver.took(); got != want {
		r.Errorf("%s: the driver was asked to %q; want %q", what, got, want)
	}
}

func same(*volumes.Request) {}

func TestADriverIsWrittenIntoTheNodeWhileItIsThere(t *testing.T) {
	r := newRig(t, storagev1.CSIDriverSpec{})
	p := r.start()
	node, err := client.Nodes.Get(t.Context(), r.client, "", "n")
	if err != nil || node.Labels["example.com/rack"] != "r1" || node.Annotations[annNodeIDs] != `{"d":"node-id"}` {
		t.Errorf("the node is %v, %v", node.ObjectMeta, err)
	}
	csinode, err := client.CSINodes.Get(t.Context(), r.client, "", "n")
	if err != nil || len(csinode.Spec.Drivers) != 1 || *csinode.Spec.Drivers[0].Allocatable.Count != 7 || csinode.OwnerReferences[0].UID != "node-uid" {
		t.Errorf("the CSINode is %v, %v", csinode, err)
	}
	p.Deregister(t.Context(), "d", r.socket)
	if csinode, err = client.CSINodes.Get(t.Context(), r.client, "", "n"); err != nil || len(csinode.Spec.Drivers) != 0 {
		t.Errorf("the CSINode is %v, %v", csinode, err)
	}
}

func TestTheLifeOfAVolumeThatTwoPodsUse(t *testing.T) {
	r := newRig(t, storagev1.CSIDriverSpec{})
	p := r.start()
	for _, pod := range []string{"a", "b", "b"} {
		if _, err := p.Mount(t.Context(), r.request(pod, same)); err != nil {
			t.Fatal(err)
		}
	}
	r.expect("mounting for two pods", "stage h, publish h, publish h")
	if got := p.InUse(); !slices.Equal(got, []corev1.UniqueVolumeName{"kubernetes.io/csi/d^h"}) {
		t.Errorf("in use: %v", got)
	}
	unmount := func(p *Plugin, pod string) {
		t.Helper()
		if err := p.Unmount(t.Context(), r.request(pod, same).Dir); err != nil {
			t.Fatal(err)
		}
	}
	unmount(p, "a")
	r.expect("unmounting from the first", "unpublish h")

	p = r.start() // the kubelet starts anew
	r.expect("starting anew", "")
	if got := p.InUse(); len(got) != 1 {
		t.Errorf("in use after a restart: %v", got)
	}
	unmount(p, "b")
	r.expect("unmounting from the last", "unpublish h, unstage h")
	unmount(p, "b")
	r.expect("unmounting once more", "")
	if got := p.InUse(); len(got) != 0 {
		t.Errorf("in use: %v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(r.root, "p*", "*", "*", "*", "*", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAVolumeThatNobodyUsesAfterACrashIsUnstaged(t *testing.T) {
	r := newRig(t, storagev1.CSIDriverSpec{})
	p := r.start()
	req := r.request("a", same)
	if _, err := p.Mount(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	r.driver.took()
	if err := os.RemoveAll(req.Dir); err != nil { // it was unpublished, and then the kubelet died
		t.Fatal(err)
	}
	p = r.start()
	r.expect("starting anew", "unstage h")
	if got := p.InUse(); len(got) != 0 {
		t.Errorf("in use: %v", got)
	}
}

func TestAVolumeThatHasGrownIsExpanded(t *testing.T) {
	r := newRig(t, storagev1.CSIDriverSpec{})
	p := r.start()
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending}
	claim.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending}}
	claim, err := client.PersistentVolumeClaims.Create(t.Context(), r.client, claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Mount(t.Context(), r.request("a", func(q *volumes.Request) { q.Claim = claim })); err != nil {
		t.Fatal(err)
	}
	r.expect("mounting", "stage h, publish h, expand to 2048 h")
	claim, err = client.PersistentVolumeClaims.Get(t.Context(), r.client, "ns", "c")
	if err != nil || claim.Status.Capacity.Storage().Value() != 2048 || len(claim.Status.Conditions) != 0 || claim.Status.AllocatedResourceStatuses != nil {
		t.Errorf("the claim says %+v, %v", claim.Status, err)
	}
}

func TestAnInlineVolumeKnowsItsPod(t *testing.T) {
	yes := true
	r := newRig(t, storagev1.CSIDriverSpec{
		PodInfoOnMount: &yes, RequiresRepublish: &yes, VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
		TokenRequests: []storagev1.TokenRequest{{Audience: "a"}},
	})
	p := r.start()
	inline := func(q *volumes.Request) {
		q.PV, q.Volume.CSI = nil, &corev1.CSIVolumeSource{Driver: "d", VolumeAttributes: map[string]string{"k": "v"}}
	}
	for range 2 {
		if m, err := p.Mount(t.Context(), r.request("a", inline)); err != nil || m.Refresh.IsZero() {
			t.Fatal(m, err)
		}
	}
	handle := inlineHandle(r.request("a", inline).Pod, "v")
	r.expect("mounting twice", "publish "+handle+", publish "+handle)
	for k, want := range map[string]string{
		"k": "v", "csi.storage.k8s.io/pod.name": "a", "csi.storage.k8s.io/ephemeral": "true",
		tokensKey: `{"a":{"token":"token for a","expirationTimestamp":null}}`,
	} {
		if got := r.driver.context[k]; got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if err := p.Unmount(t.Context(), r.request("a", inline).Dir); err != nil {
		t.Fatal(err)
	}
	r.expect("unmounting", "unpublish "+handle)
	secret := func(q *volumes.Request) {
		inline(q)
		q.Volume.CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "none"}
	}
	if _, err := p.Mount(t.Context(), r.request("a", secret)); err == nil || !strings.Contains(err.Error(), "fetching NodePublishSecretRef") || !strings.Contains(err.Error(), "/none failed") {
		t.Errorf("a secret that isn't there: %v", err)
	}
	if _, err := p.Mount(t.Context(), r.request("a", same)); err == nil || !strings.Contains(err.Error(), `volume mode "Persistent" not supported by driver d (only supports ["Ephemeral"])`) {
		t.Errorf("a persistent volume: %v", err)
	}
}

func TestWhoOwnsTheContents(t *testing.T) {
	none, file := storagev1.NoneFSGroupPolicy, storagev1.FileFSGroupPolicy
	once, many := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	for name, test := range map[string]struct {
		policy *storagev1.FSGroupPolicy
		v      volume
		want   bool
	}{
		"a file system of one node":   {nil, volume{fsType: "ext4", modes: once}, true},
		"one of many":                 {nil, volume{fsType: "ext4", modes: many}, false},
		"one of no type":              {nil, volume{modes: once}, false},
		"any, if the driver says so":  {&file, volume{modes: many}, true},
		"none, if the driver says so": {&none, volume{fsType: "ext4", modes: once}, false},
		"none that is only read":      {&file, volume{modes: once, readOnly: true}, false},
		"no device":                   {&file, volume{modes: once, block: true}, false},
		"an inline one with a type":   {nil, volume{fsType: "ext4", mode: storagev1.VolumeLifecycleEphemeral}, true},
	} {
		t.Run(name, func(t *testing.T) {
			info := &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{FSGroupPolicy: test.policy}}
			if got := test.v.ownedByGroup(info); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
