package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/sandbox"
	"clipper.dev/clipper/internal/runtime/streaming"
)

// running finds a container that runs.
func (rt *Runtime) running(id string) (*container.Record, error) {
	st, err := rt.container(id)
	if err != nil {
		return nil, err
	}
	record := st.record.Load()
	if record.State() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container is in %v state", record.State())
	}
	return record, nil
}

func (rt *Runtime) execRequest(id string, args []string, tty bool) (*wire.Exec, error) {
	record, err := rt.running(id)
	if err != nil {
		return nil, err
	}
	plan, err := rt.readPlan(record.ID)
	if err != nil {
		return nil, err
	}
	return &wire.Exec{
		ID: record.ID, Process: container.ExecProcess(plan.Spec, args, tty), Terminal: tty,
		Seccomp: plan.Filter.Program, SeccompFlags: plan.Filter.Flags,
	}, nil
}

// ExecSync runs a command in a container and returns its output.
func (rt *Runtime) ExecSync(ctx context.Context, request *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if len(request.GetCmd()) == 0 {
		return nil, invalid("no command")
	}
	exec, err := rt.execRequest(request.GetContainerId(), request.GetCmd(), false)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(request.GetTimeout()) * time.Second
	bounded := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	stdout, stderr, code, err := streaming.ExecSync(bounded, rt.keeper, exec)
	if bounded.Err() != nil && ctx.Err() == nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "failed to exec in container: timeout %v exceeded: %v", timeout, bounded.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("failed to exec in container: %w", err)
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: int32(code)}, nil
}

// Exec prepares an address where a client runs a command with streams.
func (rt *Runtime) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := rt.running(request.GetContainerId()); err != nil {
		return nil, err
	}
	return rt.streams.GetExec(request)
}

// Attach prepares an address where a client meets a container's own streams.
func (rt *Runtime) Attach(_ context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := rt.running(request.GetContainerId()); err != nil {
		return nil, err
	}
	return rt.streams.GetAttach(request)
}

// PortForward prepares an address where a client reaches a pod's ports.
func (rt *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if record := st.record.Load(); !record.Ready {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox container %q is not running", record.ID)
	}
	return rt.streams.GetPortForward(request)
}

// streamRuntime is what the streaming server calls when a client has come to its address.
type streamRuntime struct{ rt *Runtime }

// Exec implements the streaming server's runtime.
func (s streamRuntime) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	request, err := s.rt.execRequest(id, cmd, tty)
	if err != nil {
		return err
	}
	return streaming.Exec(ctx, s.rt.keeper, request, streams(in, out, errs, resize))
}

// Attach implements the streaming server's runtime.
func (s streamRuntime) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	record, err := s.rt.running(id)
	if err != nil {
		return err
	}
	return streaming.Attach(ctx, s.rt.keeper, record.ID, record.Config.Full().GetTty(), streams(in, out, errs, resize))
}

// streams keeps a missing stream missing: an interface that holds a nil pointer would look like one.
func streams(in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) streaming.Streams {
	set := streaming.Streams{Stdin: in, Resize: resize}
	if out != nil {
		set.Stdout = out
	}
	if errs != nil {
		set.Stderr = errs
	}
	return set
}

// PortForward implements the streaming server's runtime.
func (s streamRuntime) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	st, err := s.rt.sandbox(sandboxID)
	if err != nil {
		return err
	}
	record := st.record.Load()
	if sandbox.HostNetwork(record.Config.Full()) {
		return streaming.PortForward(ctx, nil, port, stream)
	}
	netns, err := s.rt.openNetNS(ctx, record.ID)
	if err != nil {
		return err
	}
	defer netns.Close()
	return streaming.PortForward(ctx, netns, port, stream)
}

// openNetNS opens the network namespace that the keeper holds for a sandbox.
func (rt *Runtime) openNetNS(ctx context.Context, sandboxID string) (*os.File, error) {
	state, err := rt.keeper.State(ctx)
	if err != nil {
		return nil, err
	}
	for _, sb := range state.Sandboxes {
		if path, ok := sb.Namespaces["network"]; sb.ID == sandboxID && ok {
			netns, err := os.Open(path)
			if err != nil {
				return nil, fmt.Errorf("open the network namespace of sandbox %s: %w", sandboxID, err)
			}
			return netns, nil
		}
	}
	return nil, errors.Join(notFound("sandbox %q has no network namespace", sandboxID))
}
