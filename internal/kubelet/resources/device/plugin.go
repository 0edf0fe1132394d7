package device

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/sets"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	connectTimeout  = 10 * time.Second
	allocateTimeout = 2 * time.Minute
)

// plugin is a connected plugin.
type plugin struct {
	resource string
	conn     *grpc.ClientConn
	api      pluginapi.DevicePluginClient
	options  *pluginapi.DevicePluginOptions
}

// connect reaches a plugin at its socket.
func connect(ctx context.Context, resource, socket string) (*plugin, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithAuthority("localhost"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("failed to dial device plugin: %w", err)
	}
	p := &plugin{resource: resource, conn: conn, api: pluginapi.NewDevicePluginClient(conn)}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if p.options, err = p.api.GetDevicePluginOptions(ctx, &pluginapi.Empty{}, grpc.WaitForReady(true)); err != nil {
		return nil, fmt.Errorf("failed to get device plugin options: %w", closing(conn, err))
	}
	return p, nil
}

// closing closes a connection that has failed.
func closing(conn *grpc.ClientConn, err error) error {
	if closeErr := conn.Close(); closeErr != nil {
		return fmt.Errorf("%w (and closing the connection: %w)", err, closeErr)
	}
	return err
}

// follow takes in the plugin's lists of devices until the stream breaks.
func (p *plugin) follow(ctx context.Context, list func([]*pluginapi.Device)) error {
	stream, err := p.api.ListAndWatch(ctx, &pluginapi.Empty{})
	if err != nil {
		return err
	}
	for {
		next, err := stream.Recv()
		if err != nil {
			return err
		}
		list(next.Devices)
	}
}

// allocate asks for what a container needs to use some devices.
func (p *plugin) allocate(ctx context.Context, ids []string) (*pluginapi.ContainerAllocateResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	resp, err := p.api.Allocate(ctx, &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return nil, err
	}
	if len(resp.ContainerResponses) == 0 {
		return nil, fmt.Errorf("no containers return in allocation response %v", resp)
	}
	return resp.ContainerResponses[0], nil
}

// prefer asks which of some devices would go together best; those that must be among them are included.
func (p *plugin) prefer(ctx context.Context, available, must sets.Set[string], size int) (sets.Set[string], error) {
	if !p.options.GetGetPreferredAllocationAvailable() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	resp, err := p.api.GetPreferredAllocation(ctx, &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{
		{AvailableDeviceIDs: sets.List(available), MustIncludeDeviceIDs: sets.List(must), AllocationSize: int32(size)},
	}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
	}
	if len(resp.GetContainerResponses()) == 0 {
		return nil, nil
	}
	return sets.New(resp.ContainerResponses[0].DeviceIDs...), nil
}

// preStart lets the plugin prepare devices for a container that is about to start.
func (p *plugin) preStart(ctx context.Context, ids sets.Set[string]) error {
	ctx, cancel := context.WithTimeout(ctx, pluginapi.KubeletPreStartContainerRPCTimeoutInSecs*time.Second)
	defer cancel()
	if _, err := p.api.PreStartContainer(ctx, &pluginapi.PreStartContainerRequest{DevicesIds: sets.List(ids)}); err != nil {
		return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
	}
	return nil
}

// supported tells whether one of some versions of the protocol is known.
func supported(versions ...string) bool {
	return slices.ContainsFunc(versions, func(v string) bool { return slices.Contains(pluginapi.SupportedVersions[:], v) })
}
