package e2e

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const testDevice = "example.com/dev"

// devicePlugin offers devices from the test's process, as an author's would from a pod.
type devicePlugin struct {
	pluginapi.UnimplementedDevicePluginServer
	dir   string // the kubelet's, of device plugins
	lists chan []*pluginapi.Device
}

// startDevicePlugin offers devices, all healthy.
func startDevicePlugin(t *testing.T, dir string, ids ...string) *devicePlugin {
	t.Helper()
	p := &devicePlugin{dir: dir, lists: make(chan []*pluginapi.Device, 4)}
	l, err := net.Listen("unix", filepath.Join(dir, "test.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pluginapi.RegisterDevicePluginServer(s, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	p.list(nil, ids...)
	conn := dialUnix(t, filepath.Join(dir, "kubelet.sock"))
	_, err = pluginapi.NewRegistrationClient(conn).Register(t.Context(), &pluginapi.RegisterRequest{Version: pluginapi.Version, Endpoint: "test.sock", ResourceName: testDevice})
	if err != nil {
		t.Fatalf("register the plugin: %v", err)
	}
	return p
}

// list tells the kubelet of devices.
func (p *devicePlugin) list(sick []string, healthy ...string) {
	var out []*pluginapi.Device
	for _, id := range healthy {
		out = append(out, &pluginapi.Device{ID: id, Health: pluginapi.Healthy})
	}
	for _, id := range sick {
		out = append(out, &pluginapi.Device{ID: id, Health: pluginapi.Unhealthy})
	}
	p.lists <- out
}

func dialUnix(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *devicePlugin) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return &pluginapi.DevicePluginOptions{}, nil
}

func (p *devicePlugin) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case devices := <-p.lists:
			if err := stream.Send(&pluginapi.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
		}
	}
}

func (p *devicePlugin) Allocate(_ context.Context, r *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	ids := r.ContainerRequests[0].DevicesIds
	answer := &pluginapi.ContainerAllocateResponse{
		Envs:    map[string]string{"DEVICES": strings.Join(ids, ",")},
		Mounts:  []*pluginapi.Mount{{HostPath: "/etc/hostname", ContainerPath: "/etc/device-host", ReadOnly: true}},
		Devices: []*pluginapi.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/test-" + ids[0], Permissions: "rw"}},
	}
	return &pluginapi.AllocateResponse{ContainerResponses: []*pluginapi.ContainerAllocateResponse{answer}}, nil
}
