package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/image"
)

// callee is a server that remembers what it was given.
type callee struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	got    *runtimeapi.PodSandboxConfig
	answer *runtimeapi.VersionResponse
	ended  chan error // why the context of a call that waits has ended
}

func (c *callee) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return c.answer, nil
}

func (c *callee) RunPodSandbox(_ context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	c.got = r.Config
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: "s"}, nil
}

func (c *callee) StopPodSandbox(ctx context.Context, _ *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	<-ctx.Done()
	c.ended <- ctx.Err()
	return nil, ctx.Err()
}

func (c *callee) ImageStatus(context.Context, *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	return nil, fmt.Errorf("look for it: %w", image.ErrNotFound)
}

func (c *callee) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	for _, id := range []string{"a", "b"} {
		if err := stream.Send(&runtimeapi.ContainerEventResponse{ContainerId: id}); err != nil {
			return err
		}
	}
	return c.wait(stream.Context())
}

func (c *callee) wait(ctx context.Context) error {
	if c.ended == nil {
		return nil
	}
	<-ctx.Done()
	c.ended <- ctx.Err()
	return ctx.Err()
}

func connect(c *callee) (*inProcess, runtimeapi.RuntimeServiceClient) {
	conn := newInProcess(c, (&Runtime{log: slog.New(slog.DiscardHandler)}).intercept)
	return conn, runtimeapi.NewRuntimeServiceClient(conn)
}

func TestCallsInProcessShareNoMessage(t *testing.T) {
	c := &callee{answer: &runtimeapi.VersionResponse{RuntimeName: "clipper"}}
	_, client := connect(c)
	request := &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{Hostname: "h", Labels: map[string]string{"a": "1"}}}
	if _, err := client.RunPodSandbox(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	request.Config.Labels["a"] = "2"
	if c.got.Hostname != "h" || c.got.Labels["a"] != "1" {
		t.Errorf("the callee has %v", c.got)
	}
	v, err := client.Version(t.Context(), &runtimeapi.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c.answer.RuntimeName = "other"
	if v.RuntimeName != "clipper" {
		t.Errorf("the caller has %v", v)
	}
}

func TestErrorsInProcessHaveTheirCodes(t *testing.T) {
	conn, client := connect(&callee{})
	if _, err := runtimeapi.NewImageServiceClient(conn).ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{}); status.Code(err) != codes.NotFound {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := client.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("what nobody serves: %v", err)
	}
	conn.refuse()
	if _, err := client.Version(t.Context(), &runtimeapi.VersionRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}

func TestCallsInProcessEndWithTheirContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &callee{ended: make(chan error, 1)}
		conn, client := connect(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("past the deadline: %v", err)
		}
		select {
		case err := <-c.ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the callee was told %v", err)
			}
		default:
			t.Error("the call was over before its callee")
		}
		stream, err := client.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		conn.refuse()
		conn.end()
		if err := <-c.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the callee of the stream was told %v", err)
		}
		conn.calls.Wait()
	})
}

func TestStreamsInProcessComeInOrderAndEnd(t *testing.T) {
	_, client := connect(&callee{})
	stream, err := client.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b"} {
		event, err := stream.Recv()
		if err != nil || event.ContainerId != want {
			t.Fatalf("%v, %v where %s was sent", event, err, want)
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}
