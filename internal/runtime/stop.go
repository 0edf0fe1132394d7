package runtime

import (
	"context"
	"fmt"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/container"
)

// StopContainer asks a container to end, and after the timeout makes it.
func (rt *Runtime) StopContainer(ctx context.Context, request *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if isNotFound(err) {
		return &runtimeapi.StopContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, rt.stopContainer(ctx, st, time.Duration(request.GetTimeout())*time.Second)
}

func (rt *Runtime) stopContainer(ctx context.Context, st *containerState, grace time.Duration) error {
	st.mu.Lock() // a start that is under way goes on though its caller may be gone: it is waited for
	record := st.record.Load()
	st.mu.Unlock()
	if record.State() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil
	}
	if grace > 0 {
		signal, err := container.ParseSignal(record.StopSignal)
		if err != nil {
			return fmt.Errorf("stop container %s: %w", record.ID, err)
		}
		patience, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		st.awaitHearing(patience, record.PID, signal)
		if err := rt.signal(ctx, record.ID, signal, false); err != nil {
			return err
		}
		select {
		case <-st.ended:
			return nil
		case <-patience.Done():
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stop container %s: %w", record.ID, err)
		}
	}
	if err := rt.signal(ctx, record.ID, syscall.SIGKILL, true); err != nil {
		return err
	}
	select {
	case <-st.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("an error occurs during waiting for container %q to be killed: %w", record.ID, ctx.Err())
	}
}

// soonest and latest are how often a program is looked at that doesn't hear its stop signal: most do within a millisecond of their start.
const (
	soonest = time.Millisecond
	latest  = 250 * time.Millisecond
)

// awaitHearing waits until the container's first process hears a signal, the container has ended or patience has: a container counts as started before its
// program has installed its handlers, and who is stopped then would lose the signal and the whole grace.
func (st *containerState) awaitHearing(patience context.Context, pid int, signal syscall.Signal) {
	for wait := soonest; !container.Hears(pid, signal); wait = min(2*wait, latest) {
		select {
		case <-time.After(wait):
		case <-st.ended:
			return
		case <-patience.Done():
			return
		}
	}
}

func (rt *Runtime) signal(ctx context.Context, id string, signal syscall.Signal, all bool) error {
	err := rt.keeper.Signal(ctx, &wire.Signal{ID: id, Signal: int(signal), All: all})
	if err != nil && !keeper.IsNotRunning(err) && !keeper.IsNotFound(err) {
		return fmt.Errorf("signal container %s: %w", id, err)
	}
	return nil
}
