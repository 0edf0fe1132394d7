package runtime

import (
	"context"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// eventBacklog bounds the events that wait for a slow subscriber, who is cut off when it falls further behind.
const eventBacklog = 1024

// hub passes events on to subscribers.
type hub struct {
	mu          sync.Mutex
	subscribers map[chan *runtimeapi.ContainerEventResponse]struct{}
}

func newHub() *hub {
	return &hub{subscribers: map[chan *runtimeapi.ContainerEventResponse]struct{}{}}
}

func (h *hub) subscribe() chan *runtimeapi.ContainerEventResponse {
	events := make(chan *runtimeapi.ContainerEventResponse, eventBacklog)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[events] = struct{}{}
	return events
}

func (h *hub) unsubscribe(events chan *runtimeapi.ContainerEventResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, events)
}

func (h *hub) listening() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers) > 0
}

func (h *hub) publish(event *runtimeapi.ContainerEventResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for events := range h.subscribers {
		select {
		case events <- event:
		default:
			close(events)
			delete(h.subscribers, events)
		}
	}
}

// GetContainerEvents sends events as they happen.
func (rt *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream runtimeapi.RuntimeService_GetContainerEventsServer) error {
	events := rt.events.subscribe()
	defer rt.events.unsubscribe(events)
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return context.DeadlineExceeded // too slow: the client relists and subscribes again
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-rt.ended:
			return nil
		}
	}
}

// emit tells subscribers about a sandbox or a container, with the pod's whole state.
func (rt *Runtime) emit(id string, kind runtimeapi.ContainerEventType, pod *sandbox.Record) {
	if !rt.events.listening() {
		return
	}
	rt.events.publish(&runtimeapi.ContainerEventResponse{
		ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano(),
		PodSandboxStatus: sandboxStatus(pod), ContainersStatuses: rt.statusesOf(pod.ID),
	})
}

// emitFor tells subscribers about a container.
func (rt *Runtime) emitFor(record *container.Record, kind runtimeapi.ContainerEventType) {
	if st, err := rt.sandbox(record.SandboxID); err == nil {
		rt.emit(record.ID, kind, st.record.Load())
	}
}
