package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

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
