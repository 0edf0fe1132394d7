// Package podresources tells monitoring and topology agents on the node which resources its pods have: the PodResources API, v1 and v1alpha1.
//
//	s := podresources.New(podresources.Config{Socket: root + "/pod-resources/kubelet.sock", Pods: …, Devices: devices, CPUs: cpus, Memory: memory})
//	err := s.Run(ctx)
//
// What flows in is what the managers have given, what flows out are answers on a unix socket.
package podresources

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	alphaapi "k8s.io/kubelet/pkg/apis/podresources/v1alpha1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources/cpu"
	"clipper.dev/clipper/internal/kubelet/resources/device"
	"clipper.dev/clipper/internal/kubelet/resources/memory"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
)

// Upstream's bounds on how often it may be asked: per second, and at once.
const (
	perSecond = 100
	atOnce    = 10
)

// Config is what a Server is made from.
type Config struct {
	Socket string
	// Active lists the pods that hold resources, Find returns one by its name.
	Active func() []*corev1.Pod
	Find   func(namespace, name string) *corev1.Pod
	// Dynamic lists what a container has by way of claims; nil is nothing.
	Dynamic func(pod *corev1.Pod, container *corev1.Container) []*podresourcesapi.DynamicResource
	CPUs    *cpu.Manager
	Memory  *memory.Manager
	Devices *device.Manager
	Metrics *metrics.Metrics
}

// Server answers.
type Server struct {
	podresourcesapi.UnimplementedPodResourcesListerServer
	cfg Config
}

// New returns a server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.cfg.Socket), 0o750); err != nil {
		return fmt.Errorf("make the folder of the PodResources API: %w", err)
	}
	if err := os.Remove(s.cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a former socket of the PodResources API: %w", err)
	}
	l, err := net.Listen("unix", s.cfg.Socket)
	if err != nil {
		return fmt.Errorf("serve the PodResources API: %w", err)
	}
	limit := rate.NewLimiter(perSecond, atOnce)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if !limit.Allow() {
			return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
		}
		return next(ctx, req)
	}))
	podresourcesapi.RegisterPodResourcesListerServer(server, s)
	alphaapi.RegisterPodResourcesListerServer(server, &alpha{cfg: &s.cfg})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		server.Stop()
	})
	err = server.Serve(l)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve the PodResources API: %w", err)
}

// count counts a request.
func (s *Server) count(method string) {
	s.cfg.Metrics.PodResources.WithLabelValues("v1").Inc()
	s.cfg.Metrics.PodResourcesBy[method].WithLabelValues("v1").Inc()
}

// List implements podresourcesapi.PodResourcesListerServer.
func (s *Server) List(context.Context, *podresourcesapi.ListPodResourcesRequest) (*podresourcesapi.ListPodResourcesResponse, error) {
	s.count("List")
	pods := s.cfg.Active()
	out := &podresourcesapi.ListPodResourcesResponse{PodResources: make([]*podresourcesapi.PodResources, len(pods))}
	for i, pod := range pods {
		out.PodResources[i] = s.pod(pod)
	}
	return out, nil
}

// Get implements podresourcesapi.PodResourcesListerServer.
func (s *Server) Get(_ context.Context, req *podresourcesapi.GetPodResourcesRequest) (*podresourcesapi.GetPodResourcesResponse, error) {
	s.count("Get")
	pod := s.cfg.Find(req.PodNamespace, req.PodName)
	if pod == nil {
		s.cfg.Metrics.PodResourcesErrors["Get"].WithLabelValues("v1").Inc()
		return nil, fmt.Errorf("pod %s in namespace %s not found", req.PodName, req.PodNamespace)
	}
	return &podresourcesapi.GetPodResourcesResponse{PodResources: s.pod(pod)}, nil
}

// GetAllocatableResources implements podresourcesapi.PodResourcesListerServer.
func (s *Server) GetAllocatableResources(context.Context, *podresourcesapi.AllocatableResourcesRequest) (*podresourcesapi.AllocatableResourcesResponse, error) {
	s.count("GetAllocatableResources")
	return &podresourcesapi.AllocatableResourcesResponse{
		Devices: devices(s.cfg.Devices.Healthy()), CpuIds: wide(s.cfg.CPUs.Allocatable().List()), Memory: blocks(s.cfg.Memory.Allocatable()),
	}, nil
}

// pod tells what a pod's long-running containers have.
func (s *Server) pod(pod *corev1.Pod) *podresourcesapi.PodResources {
	out := &podresourcesapi.PodResources{Name: pod.Name, Namespace: pod.Namespace}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; lifecycle.IsSidecar(c) {
			out.Containers = append(out.Containers, s.container(pod, c))
		}
	}
	for i := range pod.Spec.Containers {
		out.Containers = append(out.Containers, s.container(pod, &pod.Spec.Containers[i]))
	}
	return out
}

func (s *Server) container(pod *corev1.Pod, c *corev1.Container) *podresourcesapi.ContainerResources {
	out := &podresourcesapi.ContainerResources{
		Name: c.Name, Devices: devices(s.cfg.Devices.Given(pod.UID, c.Name)),
		CpuIds: wide(s.cfg.CPUs.Own(pod.UID, c.Name).List()), Memory: blocks(s.cfg.Memory.Blocks(pod.UID, c.Name)),
	}
	if s.cfg.Dynamic != nil {
		out.DynamicResources = s.cfg.Dynamic(pod, c)
	}
	return out
}

// devices lists each device with each of its nodes.
func devices(list []device.Device) []*podresourcesapi.ContainerDevices {
	var out []*podresourcesapi.ContainerDevices
	for _, d := range list {
		if len(d.Nodes) == 0 {
			out = append(out, &podresourcesapi.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}})
		}
		for _, n := range d.Nodes {
			out = append(out, &podresourcesapi.ContainerDevices{ResourceName: d.Resource, DeviceIds: []string{d.ID}, Topology: nodes(n)})
		}
	}
	return out
}

func blocks(list []memory.Block) []*podresourcesapi.ContainerMemory {
	var out []*podresourcesapi.ContainerMemory
	for _, b := range list {
		out = append(out, &podresourcesapi.ContainerMemory{MemoryType: string(b.Type), Size: b.Size, Topology: nodes(wide(b.NUMAAffinity)...)})
	}
	return out
}

func nodes(ids ...int64) *podresourcesapi.TopologyInfo {
	t := &podresourcesapi.TopologyInfo{}
	for _, id := range ids {
		t.Nodes = append(t.Nodes, &podresourcesapi.NUMANode{ID: id})
	}
	return t
}

func wide(list []int) []int64 {
	out := make([]int64, len(list))
	for i, n := range list {
		out[i] = int64(n)
	}
	return out
}
