package runtime

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// sandboxState is a sandbox in memory.
type sandboxState struct {
	mu       sync.Mutex // held while the sandbox changes
	record   atomic.Pointer[sandbox.Record]
	stopping atomic.Bool // nothing starts in it any more
}

// containerState is a container in memory.
type containerState struct {
	mu         sync.Mutex // held while the container changes
	checkpoint sync.Mutex // held while it is checkpointed
	record     atomic.Pointer[container.Record]
	ended      chan struct{} // closed when it has ended
}

func newContainerState(record *container.Record) *containerState {
	st := &containerState{ended: make(chan struct{})}
	st.record.Store(record)
	if record.Exit != nil {
		close(st.ended)
	}
	return st
}

// newID makes an ID in the form that all runtimes use.
func newID() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// find looks an object up by its ID or an unambiguous beginning of it.
func find[T any](all map[string]*T, kind, id string) (*T, error) {
	if found, ok := all[id]; ok {
		return found, nil
	}
	var match *T
	if id != "" {
		for key, candidate := range all {
			if !strings.HasPrefix(key, id) {
				continue
			}
			if match != nil {
				return nil, invalid("%s ID %q is ambiguous", kind, id)
			}
			match = candidate
		}
	}
	if match == nil {
		return nil, notFound("%s %q not found", kind, id)
	}
	return match, nil
}

func (rt *Runtime) sandbox(id string) (*sandboxState, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return find(rt.sandboxes, "sandbox", id)
}

func (rt *Runtime) container(id string) (*containerState, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return find(rt.containers, "container", id)
}

// containersOf lists a sandbox's containers.
func (rt *Runtime) containersOf(sandboxID string) []*containerState {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	var list []*containerState
	for _, st := range rt.containers {
		if st.record.Load().SandboxID == sandboxID {
			list = append(list, st)
		}
	}
	return list
}

// reserve makes sure that no two objects have the same name, which would be a client that repeats a
// call whose answer it missed.
func (rt *Runtime) reserve(name, id string) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if owner, ok := rt.reserved[name]; ok {
		return status.Errorf(codes.AlreadyExists, "failed to reserve name %q: name %q is reserved for %q", name, name, owner)
	}
	rt.reserved[name] = id
	return nil
}

func (rt *Runtime) unreserve(name string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	delete(rt.reserved, name)
}

// matches tells whether labels have everything that a selector asks for.
func matches(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
