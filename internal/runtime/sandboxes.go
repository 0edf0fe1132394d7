package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// RunPodSandbox makes a pod's namespaces and connects them to the network.
func (rt *Runtime) RunPodSandbox(ctx context.Context, request *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	config := request.GetConfig()
	if err := sandbox.Validate(config); err != nil {
		return nil, invalid("%v", err)
	}
	if handler := request.GetRuntimeHandler(); !slices.Contains(handlers, handler) {
		return nil, fmt.Errorf("no runtime for %q is configured", handler)
	}
	kept, err := sandbox.NewConfig(config)
	if err != nil {
		return nil, fmt.Errorf("encode the sandbox's configuration: %w", err)
	}
	id := newID()
	name := sandboxName(config.GetMetadata())
	if err := rt.reserve(name, id); err != nil {
		return nil, err
	}
	record := &sandbox.Record{ID: id, Handler: request.GetRuntimeHandler(), Config: kept, Ready: true, CreatedAt: time.Now()}
	if err := rt.buildSandbox(ctx, record, config); err != nil {
		// What was made is taken away even if the caller has gone.
		err = errors.Join(err, rt.dismantle(context.WithoutCancel(ctx), record), rt.sandboxDir.Remove(id))
		rt.unreserve(name)
		return nil, fmt.Errorf("run pod sandbox %s/%s: %w", config.GetMetadata().GetNamespace(), config.GetMetadata().GetName(), err)
	}
	st := &sandboxState{}
	st.record.Store(record)
	rt.mu.Lock()
	rt.sandboxes[id] = st
	rt.mu.Unlock()
	rt.emit(id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT, record)
	rt.emit(id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT, record)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// handlers are the names of runtime classes that this runtime serves: all by the same means.
var handlers = []string{"", "runc", "clipper"}

func sandboxName(m *runtimeapi.PodSandboxMetadata) string {
	return fmt.Sprintf("%s_%s_%s_%d", m.GetName(), m.GetNamespace(), m.GetUid(), m.GetAttempt())
}

func (rt *Runtime) buildSandbox(ctx context.Context, record *sandbox.Record, config *runtimeapi.PodSandboxConfig) error {
	if err := rt.sandboxDir.Create(record.ID); err != nil {
		return err
	}
	if err := sandbox.WriteFiles(rt.sandboxDir.Path(record.ID), config); err != nil {
		return err
	}
	// To the end even if the caller stops waiting: what is still being made can't be taken away.
	made, err := rt.keeper.CreateSandbox(context.WithoutCancel(ctx), sandbox.KeeperRequest(record.ID, config))
	if err != nil {
		return err
	}
	record.Shm = made.Shm
	if !sandbox.HostNetwork(config) {
		if record.IPs, err = rt.attach(ctx, record, config, made.Namespaces["network"]); err != nil {
			return fmt.Errorf("setup network for sandbox %q: %w", record.ID, err)
		}
	}
	return rt.sandboxDir.Save(record.ID, record)
}

func (rt *Runtime) attach(ctx context.Context, record *sandbox.Record, config *runtimeapi.PodSandboxConfig, namespace string) ([]netip.Addr, error) {
	netns, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	defer netns.Close()
	metadata := record.Config.Metadata
	pod := network.Sandbox{
		ID: record.ID, Namespace: metadata.GetNamespace(), Name: metadata.GetName(), UID: metadata.GetUid(), NetNS: netns,
	}
	for _, mapping := range config.GetPortMappings() {
		if mapping.GetHostPort() <= 0 {
			continue
		}
		port := network.HostPort{
			Protocol: mapping.GetProtocol().String(),
			HostPort: uint16(mapping.GetHostPort()), ContainerPort: uint16(mapping.GetContainerPort()),
		}
		if mapping.GetHostIp() != "" {
			if port.HostIP, err = netip.ParseAddr(mapping.GetHostIp()); err != nil {
				return nil, fmt.Errorf("host port: %w", err)
			}
		}
		pod.HostPorts = append(pod.HostPorts, port)
	}
	annotations := record.Config.Annotations
	if pod.IngressBitsPerSecond, err = bandwidth(annotations["kubernetes.io/ingress-bandwidth"]); err != nil {
		return nil, err
	}
	if pod.EgressBitsPerSecond, err = bandwidth(annotations["kubernetes.io/egress-bandwidth"]); err != nil {
		return nil, err
	}
	return rt.cfg.Network.Attach(ctx, pod)
}

// dismantle gives back what a sandbox holds; it can be repeated.
func (rt *Runtime) dismantle(ctx context.Context, record *sandbox.Record) error {
	var group errgroup.Group
	if !sandbox.HostNetwork(record.Config.Full()) {
		group.Go(func() error {
			if err := rt.cfg.Network.Detach(ctx, record.ID); err != nil {
				return fmt.Errorf("tear down network of sandbox %s: %w", record.ID, err)
			}
			return nil
		})
	}
	group.Go(func() error { return rt.keeper.RemoveSandbox(ctx, record.ID) })
	return group.Wait()
}

// StopPodSandbox ends a sandbox's containers and gives its network back.
func (rt *Runtime) StopPodSandbox(ctx context.Context, request *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if isNotFound(err) {
		return &runtimeapi.StopPodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return &runtimeapi.StopPodSandboxResponse{}, rt.stopSandbox(ctx, st)
}

// stopSandbox does the work; the caller holds the sandbox's lock.
func (rt *Runtime) stopSandbox(ctx context.Context, st *sandboxState) error {
	record := st.record.Load()
	st.stopping.Store(true)
	var group errgroup.Group
	for _, c := range rt.containersOf(record.ID) {
		group.Go(func() error { return rt.stopContainer(ctx, c, 0) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("stop the containers of sandbox %s: %w", record.ID, err)
	}
	if err := rt.dismantle(ctx, record); err != nil {
		return err
	}
	if !record.Ready {
		return nil
	}
	stopped := *record
	stopped.Ready = false
	if err := rt.sandboxDir.Save(record.ID, &stopped); err != nil {
		return err
	}
	st.record.Store(&stopped)
	rt.emit(record.ID, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT, &stopped)
	return nil
}

// RemovePodSandbox removes a sandbox with all its containers.
func (rt *Runtime) RemovePodSandbox(ctx context.Context, request *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if isNotFound(err) {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := rt.stopSandbox(ctx, st); err != nil {
		return nil, err
	}
	record := st.record.Load()
	for _, c := range rt.containersOf(record.ID) {
		if err := rt.removeContainer(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := rt.sandboxDir.Remove(record.ID); err != nil {
		return nil, err
	}
	rt.mu.Lock()
	delete(rt.sandboxes, record.ID)
	rt.mu.Unlock()
	rt.unreserve(sandboxName(record.Config.Metadata))
	rt.emit(record.ID, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT, record)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus tells how a sandbox is.
func (rt *Runtime) PodSandboxStatus(_ context.Context, request *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	record := st.record.Load()
	response := &runtimeapi.PodSandboxStatusResponse{Status: sandboxStatus(record), Timestamp: time.Now().UnixNano()}
	response.ContainersStatuses = rt.statusesOf(record.ID)
	if request.GetVerbose() {
		info, err := json.Marshal(map[string]any{"config": record.Config.Full(), "shm": record.Shm})
		if err != nil {
			return nil, fmt.Errorf("encode sandbox info: %w", err)
		}
		response.Info = map[string]string{"info": string(info)}
	}
	return response, nil
}

func readiness(ready bool) runtimeapi.PodSandboxState {
	if ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func sandboxStatus(record *sandbox.Record) *runtimeapi.PodSandboxStatus {
	status := &runtimeapi.PodSandboxStatus{
		Id: record.ID, Metadata: record.Config.Metadata, State: readiness(record.Ready),
		CreatedAt: record.CreatedAt.UnixNano(), Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux:  &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: sandbox.Options(record.Config.Full())}},
		Labels: record.Config.Labels, Annotations: record.Config.Annotations, RuntimeHandler: record.Handler,
	}
	for i, ip := range record.IPStrings() {
		if i == 0 {
			status.Network.Ip = ip
			continue
		}
		status.Network.AdditionalIps = append(status.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
	}
	return status
}

// ListPodSandbox lists sandboxes.
func (rt *Runtime) ListPodSandbox(_ context.Context, request *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	return &runtimeapi.ListPodSandboxResponse{Items: rt.listSandboxes(request.GetFilter())}, nil
}

// StreamPodSandboxes lists sandboxes piece by piece.
func (rt *Runtime) StreamPodSandboxes(request *runtimeapi.StreamPodSandboxesRequest, stream runtimeapi.RuntimeService_StreamPodSandboxesServer) error {
	return inPieces(rt.listSandboxes(request.GetFilter()), func(piece []*runtimeapi.PodSandbox) error {
		return stream.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: piece})
	})
}

func (rt *Runtime) listSandboxes(filter *runtimeapi.PodSandboxFilter) []*runtimeapi.PodSandbox {
	var wanted []*sandbox.Record
	rt.mu.Lock()
	for _, st := range rt.sandboxes {
		record := st.record.Load()
		if strings.HasPrefix(record.ID, filter.GetId()) && matches(record.Config.Labels, filter.GetLabelSelector()) &&
			(filter.GetState() == nil || filter.GetState().GetState() == readiness(record.Ready)) {
			wanted = append(wanted, record)
		}
	}
	rt.mu.Unlock()
	slices.SortFunc(wanted, func(a, b *sandbox.Record) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var list []*runtimeapi.PodSandbox
	for _, record := range wanted {
		list = append(list, &runtimeapi.PodSandbox{
			Id: record.ID, Metadata: record.Config.Metadata, State: readiness(record.Ready),
			CreatedAt: record.CreatedAt.UnixNano(), Labels: record.Config.Labels,
			Annotations: record.Config.Annotations, RuntimeHandler: record.Handler,
		})
	}
	return list
}

// pieceLength is how many items one message of a streamed list carries.
const pieceLength = 100

func inPieces[T any](list []T, send func([]T) error) error {
	for piece := range slices.Chunk(list, pieceLength) {
		if err := send(piece); err != nil {
			return err
		}
	}
	return nil
}

// UpdatePodSandboxResources takes note of a pod's resources; its cgroup is the kubelet's.
func (rt *Runtime) UpdatePodSandboxResources(_ context.Context, request *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	changed := *st.record.Load()
	config := changed.Config.Full()
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxPodSandboxConfig{}
	}
	config.Linux.Overhead = request.GetOverhead()
	config.Linux.Resources = request.GetResources()
	if changed.Config, err = sandbox.NewConfig(config); err != nil {
		return nil, fmt.Errorf("encode the sandbox's configuration: %w", err)
	}
	if err := rt.sandboxDir.Save(changed.ID, &changed); err != nil {
		return nil, err
	}
	st.record.Store(&changed)
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// isKept tells whether the keeper still holds a sandbox.
func isKept(state *wire.State, id string) bool {
	return slices.ContainsFunc(state.Sandboxes, func(sb wire.Sandbox) bool { return sb.ID == id })
}
