package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/image"
	"clipper.dev/clipper/internal/runtime/records"
	"clipper.dev/clipper/internal/runtime/sandbox"
	"clipper.dev/clipper/internal/runtime/streaming"
)

// Config says where the runtime keeps what, and whom it works with.
type Config struct {
	// StateDir is the folder for what must survive a restart of the machine: images, containers' root
	// file systems, records. It must be on a file system that overlayfs accepts as an upper layer.
	StateDir string
	// RunDir is the folder for sockets, pipes and mount points.
	RunDir string
	// Socket is the path of the unix socket to serve on.
	Socket string
	// KeeperPath is the keeper's executable. It may be replaced or deleted while a keeper runs.
	KeeperPath string
	// CgroupRoot is the name below which all cgroups lie that the runtime makes of its own accord, in
	// every hierarchy; those of pods are where the kubelet says.
	CgroupRoot string
	// Network connects pods.
	Network network.Pods
	// Registries says how registries are reached.
	Registries image.Registries
	// Version is what the runtime reports as its own.
	Version string
	Logger  *slog.Logger
}

// Runtime serves the Container Runtime Interface: every call of it, which the compiler sees to.
type Runtime struct {
	runtimeapi.UnsafeRuntimeServiceServer
	runtimeapi.UnsafeImageServiceServer

	cfg     Config
	log     *slog.Logger
	keeper  *keeper.Client
	images  *image.Store
	streams *streaming.Server
	events  *hub
	local   *inProcess
	trash   *trash

	sandboxDir   *records.Dir[sandbox.Record]
	containerDir *records.Dir[container.Record]

	mu         sync.Mutex
	sandboxes  map[string]*sandboxState
	containers map[string]*containerState
	reserved   map[string]string // names of sandboxes and containers in use, with their IDs

	usage usageCache
	ended chan struct{} // closed when the runtime stops serving
}

// New opens the stores, starts or finds the keeper, and recovers what ran before.
func New(cfg Config) (*Runtime, error) {
	if cfg.Version == "" {
		cfg.Version = "v1"
	}
	rt := &Runtime{
		cfg: cfg, log: cfg.Logger, events: newHub(), ended: make(chan struct{}),
		sandboxes: map[string]*sandboxState{}, containers: map[string]*containerState{}, reserved: map[string]string{},
	}
	rt.local = newInProcess(rt, rt.intercept)
	for _, dir := range []string{cfg.StateDir, cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("create %s: %w", dir, err)
		}
	}
	if err := checkKernel(cfg); err != nil {
		return nil, err
	}
	var err error
	if rt.trash, err = newTrash(filepath.Join(cfg.StateDir, "trash"), cfg.Logger); err != nil {
		return nil, err
	}
	if rt.images, err = image.Open(filepath.Join(cfg.StateDir, "images"), cfg.Logger); err != nil {
		return nil, err
	}
	if rt.sandboxDir, err = records.Open[sandbox.Record](filepath.Join(cfg.StateDir, "sandboxes")); err != nil {
		return nil, err
	}
	if rt.containerDir, err = records.Open[container.Record](filepath.Join(cfg.StateDir, "containers")); err != nil {
		return nil, err
	}
	if rt.streams, err = streaming.NewServer(streamRuntime{rt}); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if rt.keeper, err = keeper.Start(ctx, rt.keeperOptions()); err != nil {
		return nil, err
	}
	return rt, rt.recover(ctx)
}

func (rt *Runtime) keeperOptions() keeper.Options {
	return keeper.Options{
		Path:     rt.cfg.KeeperPath,
		StateDir: filepath.Join(rt.cfg.StateDir, "keeper"),
		RunDir:   filepath.Join(rt.cfg.RunDir, "keeper"),
		Cgroup:   filepath.Join(rt.cfg.CgroupRoot, "keeper"),
	}
}

// Images is the store of images, for those that bring images without a registry.
func (rt *Runtime) Images() *image.Store { return rt.images }

// maxMessageBytes bounds a message on the socket; lists of many containers are long.
const maxMessageBytes = 16 << 20

// streamWorkers are goroutines that serve one call after the other, with stacks that have grown; further calls get a new one each.
const streamWorkers = 8

// stopPatience is how long calls in progress may take when the runtime stops.
const stopPatience = 2 * time.Second

// Serve answers requests until the context ends. Containers run on.
func (rt *Runtime) Serve(ctx context.Context) error {
	defer rt.keeper.Close()
	if err := os.MkdirAll(filepath.Dir(rt.cfg.Socket), 0o755); err != nil {
		return fmt.Errorf("create the socket's folder: %w", err)
	}
	if err := os.Remove(rt.cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	listener, err := net.Listen("unix", rt.cfg.Socket)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", rt.cfg.Socket, err)
	}
	if err := os.Chmod(rt.cfg.Socket, 0o600); err != nil {
		listener.Close()
		return fmt.Errorf("protect %s: %w", rt.cfg.Socket, err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.UnaryInterceptor(rt.intercept), grpc.NumStreamWorkers(streamWorkers))
	runtimeapi.RegisterRuntimeServiceServer(server, rt)
	runtimeapi.RegisterImageServiceServer(server, rt)
	registerImages(server, rt.images)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(listener) })
	group.Go(func() error { return rt.streams.Serve(ctx) })
	group.Go(func() error { return rt.watchKeeper(ctx) })
	group.Go(func() error { return rt.trash.run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		close(rt.ended)
		rt.endCalls(server)
		return nil
	})
	return group.Wait()
}

// endCalls lets the calls in progress, over the socket and in process, come to their ends, but not for long.
func (rt *Runtime) endCalls(server *grpc.Server) {
	rt.local.refuse()
	ended := make(chan struct{})
	go func() {
		server.GracefulStop()
		rt.local.calls.Wait()
		close(ended)
	}()
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		rt.local.end()
		server.Stop()
		<-ended
	}
}

// Shutdown ends the keeper; without force only if no container runs. It is for whoever takes a node down for good.
func (rt *Runtime) Shutdown(ctx context.Context, force bool) error {
	return rt.keeper.Shutdown(ctx, force)
}

// intercept gives every error of a call its code.
func (rt *Runtime) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err != nil {
		rt.log.Debug("call failed", "method", info.FullMethod, "error", err)
		return nil, coded(err)
	}
	return response, nil
}
