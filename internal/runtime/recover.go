package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// recover reads the records and brings them together with what the keeper keeps.
func (rt *Runtime) recover(ctx context.Context) error {
	state, err := rt.keeper.State(ctx)
	if err != nil {
		return err
	}
	sandboxes, brokenSandboxes, err := rt.sandboxDir.Load()
	if err != nil {
		return err
	}
	containers, brokenContainers, err := rt.containerDir.Load()
	if err != nil {
		return err
	}
	for id, record := range sandboxes {
		if err := rt.recoverSandbox(record, isKept(state, id)); err != nil {
			return err
		}
	}
	for id, record := range containers {
		if _, ok := rt.sandboxes[record.SandboxID]; !ok {
			brokenContainers = append(brokenContainers, id)
			continue
		}
		rt.recoverContainer(record, state)
	}
	if err := rt.clearHalfMade(ctx, state, brokenSandboxes, brokenContainers); err != nil {
		return err
	}
	return rt.images.Collect(ctx)
}

func (rt *Runtime) recoverSandbox(record *sandbox.Record, kept bool) error {
	if record.Ready && !kept {
		// Its namespaces ended with the machine or the keeper. What the network made for it is given
		// back when it is stopped, as a kubelet does with every sandbox that is not ready.
		record.Ready = false
		if err := rt.sandboxDir.Save(record.ID, record); err != nil {
			return err
		}
	}
	st := &sandboxState{}
	st.record.Store(record)
	rt.sandboxes[record.ID] = st
	rt.reserved[sandboxName(record.Config.Metadata)] = record.ID
	return nil
}

func (rt *Runtime) recoverContainer(record *container.Record, state *wire.State) {
	if reconcile(record, state) {
		if err := rt.containerDir.Save(record.ID, record); err != nil {
			rt.log.Error("a container's record could not be written", "container", record.ID, "error", err)
		}
	}
	rt.containers[record.ID] = newContainerState(record)
	rt.reserved[containerName(record.SandboxID, record.Config.Metadata)] = record.ID
	rt.images.Hold(append(slices.Clone(record.Lower), record.MountedLow...))
}

// reconcile takes over from the keeper what the record does not know; it tells whether that was anything.
func reconcile(record *container.Record, state *wire.State) bool {
	if record.Exit != nil {
		return false
	}
	at := slices.IndexFunc(state.Containers, func(c wire.Container) bool { return c.ID == record.ID })
	if at >= 0 {
		kept := state.Containers[at]
		changed := !record.StartedAt.Equal(kept.StartedAt) || kept.Exit != nil
		record.PID, record.StartedAt, record.Exit = kept.PID, kept.StartedAt, kept.Exit
		return changed
	}
	if record.StartedAt.IsZero() {
		return false
	}
	record.Exit = &wire.Exit{Code: 255, FinishedAt: time.Now()}
	return true
}

// clearHalfMade takes away what was being made or removed when the runtime ended.
func (rt *Runtime) clearHalfMade(ctx context.Context, state *wire.State, sandboxes, containers []string) error {
	for _, kept := range state.Containers {
		if _, ok := rt.containers[kept.ID]; !ok {
			containers = append(containers, kept.ID)
		}
	}
	for _, kept := range state.Sandboxes {
		if _, ok := rt.sandboxes[kept.ID]; !ok {
			sandboxes = append(sandboxes, kept.ID)
		}
	}
	for _, id := range containers {
		rt.log.Info("clearing a half-made container", "container", id)
		if err := errors.Join(rt.keeper.RemoveContainer(ctx, id), rt.containerDir.Remove(id)); err != nil {
			return fmt.Errorf("clear half-made container %s: %w", id, err)
		}
	}
	for _, id := range sandboxes {
		rt.log.Info("clearing a half-made sandbox", "sandbox", id)
		err := errors.Join(rt.cfg.Network.Detach(ctx, id), rt.keeper.RemoveSandbox(ctx, id), rt.sandboxDir.Remove(id))
		if err != nil {
			return fmt.Errorf("clear half-made sandbox %s: %w", id, err)
		}
	}
	return nil
}

// keeperRetry is how long to wait before a keeper that left is looked for again.
const keeperRetry = 200 * time.Millisecond

// watchKeeper follows the exits of containers, and starts a new keeper when the present one ends.
func (rt *Runtime) watchKeeper(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		subscribed := func() {
			rt.catchUp(ctx)
			// Apart, since it waits for sandboxes' locks, whose holders may wait for the events to come.
			checks.Go(func() { rt.checkSandboxes(ctx) })
		}
		err := rt.keeper.Events(ctx, subscribed, rt.containerEnded)
		if ctx.Err() != nil {
			return nil
		}
		rt.log.Warn("lost the keeper", "error", err)
		timer := time.NewTimer(keeperRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		fresh, err := keeper.Start(ctx, rt.keeperOptions())
		if err != nil {
			rt.log.Error("the keeper cannot be started", "error", err)
			continue
		}
		fresh.Close() // the runtime's own client finds the new keeper at the same socket
	}
}

// catchUp learns which containers ended before the subscription.
func (rt *Runtime) catchUp(ctx context.Context) {
	records := rt.containerRecords(everyContainer) // before the keeper is asked: what it has started by then, it knows
	state, err := rt.keeper.State(ctx)
	if err != nil {
		rt.log.Warn("the keeper's state cannot be read", "error", err)
		return
	}
	kept := map[string]bool{}
	for _, c := range state.Containers {
		kept[c.ID] = true
		if c.Exit != nil {
			rt.containerEnded(c)
		}
	}
	for _, record := range records {
		if !kept[record.ID] && record.Exit == nil && !record.StartedAt.IsZero() {
			rt.containerEnded(wire.Container{ID: record.ID, Exit: &wire.Exit{Code: 255, FinishedAt: time.Now()}})
		}
	}
}

// checkSandboxes marks the sandboxes whose namespaces a new keeper could not find again.
func (rt *Runtime) checkSandboxes(ctx context.Context) {
	rt.mu.Lock()
	known := maps.Clone(rt.sandboxes)
	rt.mu.Unlock()
	state, err := rt.keeper.State(ctx)
	if err != nil {
		return // the next subscription checks again
	}
	for id, st := range known {
		if !isKept(state, id) {
			rt.sandboxLost(id, st)
		}
	}
}

func (rt *Runtime) sandboxLost(id string, st *sandboxState) {
	st.mu.Lock()
	defer st.mu.Unlock()
	rt.mu.Lock()
	_, there := rt.sandboxes[id]
	rt.mu.Unlock()
	record := st.record.Load()
	if !there || !record.Ready {
		return
	}
	lost := *record
	lost.Ready = false
	if err := rt.sandboxDir.Save(id, &lost); err != nil {
		rt.log.Error("a sandbox's record could not be written", "sandbox", id, "error", err)
	}
	st.record.Store(&lost)
}
