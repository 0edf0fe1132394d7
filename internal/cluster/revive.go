package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/store"
)

// reviveEvery is how often is looked whether a database that stopped by itself has room again.
const reviveEvery = 5 * time.Second

// revive waits for the database to stop by itself, which it does when its log can't be written. Everything else goes on meanwhile:
// containers, the proxy, DNS and reads from the cache. Once there is room again the process replaces itself with a new one of the same
// program, since etcd lets go of its files only with its process; the containers don't notice.
func revive(ctx context.Context, s *store.Store, dir string, log *slog.Logger) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.Done():
	}
	if ctx.Err() != nil {
		return nil
	}
	log.Error("the database has stopped: writes are refused, everything that runs goes on", "error", s.Err())
	for !store.HasRoom(dir) {
		if controller.Sleep(ctx, reviveEvery) != nil {
			return nil
		}
	}
	if controller.Sleep(ctx, reviveEvery) != nil {
		return nil
	}
	log.Info("starting anew to open the database again")
	if err := unix.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
		return fmt.Errorf("start anew after the database stopped: %w", err)
	}
	return nil
}

// tasks are the parts of a server. The failure of one ends them all, but not when it fails for want of a database that has stopped by
// itself: then the others go on until the process is replaced.
type tasks struct {
	group *errgroup.Group
	ctx   context.Context
	store *store.Store
	log   *slog.Logger
}

func newTasks(ctx context.Context, s *store.Store, log *slog.Logger) (*tasks, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	return &tasks{group: g, ctx: ctx, store: s, log: log}, ctx
}

// Go runs a part.
func (t *tasks) Go(part func() error) {
	t.group.Go(func() error {
		err := part()
		if err == nil || t.ctx.Err() != nil || t.store.Err() == nil {
			return err
		}
		t.log.Warn("a part of the server has ended with the database", "error", err)
		<-t.ctx.Done()
		return nil
	})
}

// Wait waits for all parts.
func (t *tasks) Wait() error { return t.group.Wait() }
