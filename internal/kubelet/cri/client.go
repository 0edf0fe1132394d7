package cri

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

const (
	maxMessageSize = 16 << 20
	maxRedialDelay = 3 * time.Second
	connectTimeout = 10 * time.Second // a busy machine's runtime may be slow to greet; without it the first back-off is the limit
	runtimeAPI     = "v1"
)

// Client is a connection to a runtime. Its embedded clients may be called by anyone.
type Client struct {
	runtimeapi.RuntimeServiceClient
	Images runtimeapi.ImageServiceClient

	close    func() error
	owner    string
	patience time.Duration
	logger   *slog.Logger
	metrics  *Metrics

	mu     sync.Mutex
	name   string
	exited map[string]lifecycle.Container // what doesn't change any more, by ID
}

// Dial prepares a connection to the runtime at a unix socket, given as a path or as unix:// URL. It's made with the first call and made anew when it breaks.
// owner is the label's value of what belongs to this kubelet; patience bounds every call that doesn't pull, stop or stream.
func Dial(endpoint, owner string, patience time.Duration, metrics *Metrics, logger *slog.Logger) (*Client, error) {
	target := "unix://" + strings.TrimPrefix(endpoint, "unix://")
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 20*time.Millisecond, maxRedialDelay
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageSize)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: connectTimeout}))
	if err != nil {
		return nil, fmt.Errorf("connect to the container runtime at %s: %w", endpoint, err)
	}
	c := New(conn, owner, patience, metrics, logger)
	c.close = conn.Close
	return c, nil
}

// New uses a connection that is there already, as one to a runtime in the same process.
func New(conn grpc.ClientConnInterface, owner string, patience time.Duration, metrics *Metrics, logger *slog.Logger) *Client {
	conn = bounded{conn, patience, metrics}
	return &Client{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn),
		Images:               runtimeapi.NewImageServiceClient(conn),
		close:                func() error { return nil },
		owner:                owner, patience: patience, logger: logger, metrics: metrics,
		exited: map[string]lifecycle.Container{},
	}
}

// bounded gives calls without a deadline one, except those that take as long as they take, and counts them.
type bounded struct {
	grpc.ClientConnInterface
	patience time.Duration
	metrics  *Metrics
}

// Invoke makes a call.
func (b bounded) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) (err error) {
	began := time.Now()
	defer func() { b.metrics.count(method, req, time.Since(began), err) }()
	if _, has := ctx.Deadline(); has || method == runtimeapi.ImageService_PullImage_FullMethodName {
		return b.ClientConnInterface.Invoke(ctx, method, req, reply, opts...)
	}
	limit := b.patience
	if method == runtimeapi.RuntimeService_StopContainer_FullMethodName {
		limit += time.Duration(req.(*runtimeapi.StopContainerRequest).Timeout) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return b.ClientConnInterface.Invoke(ctx, method, req, reply, opts...)
}

// Close ends the connection that Dial has made.
func (c *Client) Close() error { return c.close() }

// Patience is how long a call may take that doesn't pull, stop or stream.
func (c *Client) Patience() time.Duration { return c.patience }

// Owner returns the label's value of what belongs to this kubelet.
func (c *Client) Owner() string { return c.owner }

// Name returns the runtime's name, which is part of container IDs in statuses.
func (c *Client) Name(ctx context.Context) (string, error) {
	c.mu.Lock()
	name := c.name
	c.mu.Unlock()
	if name != "" {
		return name, nil
	}
	v, err := c.Version(ctx, &runtimeapi.VersionRequest{Version: runtimeAPI})
	if err != nil {
		return "", fmt.Errorf("ask the runtime for its version: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name = v.RuntimeName
	return c.name, nil
}

// IsNotFound tells whether the runtime doesn't know what was asked for.
func IsNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// Message returns the text of a runtime's error without gRPC's wrapping.
func Message(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// Remove removes a container.
func (c *Client) Remove(ctx context.Context, containerID string) error {
	_, err := c.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: containerID})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", containerID, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.exited, containerID)
	return nil
}
