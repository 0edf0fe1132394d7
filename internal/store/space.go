package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// space guards the disk under the embedded etcd, which does not survive a failed write: before the disk is full, writes
// that need room are refused. A file of ballast is given up then, so that deleting, compacting and etcd's own log
// have room to go on; it is made again when the disk has recovered. The same refusal keeps the database within its quota.
type space struct {
	store   *Store
	refused atomic.Pointer[error]

	ballast  bool
	reserved int64 // bytes of the database file that surely have blocks
}

const (
	spaceCheckEvery = 500 * time.Millisecond
	// Below this many free bytes writes are refused; it covers two segments of the log and a growing database.
	lowSpaceBytes = 3 * walSegmentBytes
	// The database file is given blocks this far beyond its end, so that a full disk does not hit it unawares.
	growAheadBytes = 32 << 20
	// The quota's refusal ends when the file has shrunk below this share of it.
	quotaResumePercent = 90
)

// check returns ErrNoSpace, with the reason, while writes are refused.
func (sp *space) check() error {
	if p := sp.refused.Load(); p != nil {
		return *p
	}
	return nil
}

func (sp *space) open(s *Store) error {
	sp.store = s
	if _, err := os.Stat(sp.ballastPath()); err == nil {
		sp.ballast = true
	}
	sp.look(s.stop)
	return nil
}

func (sp *space) ballastPath() string { return filepath.Join(sp.store.cfg.Dir, "reserve") }

func (sp *space) databasePath() string {
	return filepath.Join(sp.store.cfg.Dir, "etcd", "member", "snap", "db")
}

// watch looks at the disk until the store ends.
func (sp *space) watch(ctx context.Context) {
	every := time.NewTicker(spaceCheckEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			sp.look(ctx)
		}
	}
}

// look judges the disk and the quota once, and does what follows.
func (sp *space) look(ctx context.Context) {
	free, err := freeBytes(sp.store.cfg.Dir)
	if err != nil {
		sp.store.cfg.Logger.Warn("the free space of the data directory is not known", "err", err)
		return
	}
	if err := sp.judgeDisk(free); err != nil {
		sp.refuse(err)
		return
	}
	st, err := sp.store.backend.status(ctx)
	if err != nil {
		sp.store.cfg.Logger.Warn("the size of the database is not known", "err", err)
		return
	}
	if err := sp.judgeQuota(ctx, st); err != nil {
		sp.refuse(err)
		return
	}
	sp.accept(ctx, st)
	sp.reserve(free)
}

// judgeDisk refuses below the low mark, and until twice that is free again.
func (sp *space) judgeDisk(free int64) error {
	mark := int64(lowSpaceBytes)
	if sp.store.cfg.ReserveBytes < 0 {
		mark = walSegmentBytes
	}
	if sp.check() != nil {
		mark *= 2
	}
	if free >= mark {
		return nil
	}
	sp.giveUpBallast()
	return fmt.Errorf("%d MiB free on the disk of %s: %w", free>>20, sp.store.cfg.Dir, ErrNoSpace)
}

// judgeQuota refuses when the database file has outgrown its quota, and makes it smaller if that helps.
func (sp *space) judgeQuota(ctx context.Context, st Status) error {
	quota := sp.store.cfg.QuotaBytes
	limit := quota
	if sp.check() != nil || st.Alarmed {
		limit = quota / 100 * quotaResumePercent
	}
	if st.SizeBytes < limit {
		return nil
	}
	if st.InUseBytes < limit/4*3 {
		if err := sp.store.Defragment(ctx); err != nil {
			sp.store.cfg.Logger.Warn("the database is over its quota and could not be defragmented", "err", err)
		}
		sp.reserved = 0
	}
	return fmt.Errorf("the database has reached its quota of %d MiB: %w", quota>>20, ErrNoSpace)
}

func (sp *space) refuse(err error) {
	if sp.check() == nil {
		sp.store.cfg.Logger.Error("writes are refused", "err", err)
	}
	sp.refused.Store(&err)
}

func (sp *space) accept(ctx context.Context, st Status) {
	if sp.check() == nil && !st.Alarmed {
		return
	}
	if err := sp.store.backend.disarm(ctx); err != nil {
		sp.store.cfg.Logger.Warn("etcd still refuses writes", "err", err)
		return
	}
	sp.refused.Store(nil)
	sp.store.cfg.Logger.Info("writes are accepted again")
}

// reserve makes the ballast if there is room for it, and gives the database file blocks ahead of its growth.
func (sp *space) reserve(free int64) {
	want := sp.store.cfg.ReserveBytes
	if want < 0 {
		return
	}
	if !sp.ballast && free >= 2*lowSpaceBytes+want+growAheadBytes {
		if err := allocate(sp.ballastPath(), 0, want); err != nil {
			sp.store.cfg.Logger.Warn("no disk space could be set aside", "err", err)
		}
		sp.ballast = true
	}
	info, err := os.Stat(sp.databasePath())
	if err != nil || info.Size()+growAheadBytes/2 <= sp.reserved {
		return
	}
	if free < 2*lowSpaceBytes+growAheadBytes {
		return
	}
	sp.reserved = info.Size() + growAheadBytes
	if err := allocate(sp.databasePath(), unix.FALLOC_FL_KEEP_SIZE, sp.reserved); err != nil {
		sp.store.cfg.Logger.Warn("no disk space could be set aside for the database", "err", err)
	}
}

func (sp *space) giveUpBallast() {
	if !sp.ballast {
		return
	}
	if err := os.Remove(sp.ballastPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		sp.store.cfg.Logger.Warn("the reserve of disk space could not be freed", "err", err)
		return
	}
	sp.ballast = false
}

// allocate gives a file blocks up to a size. A file system that cannot do so is no error: there is no reserve then.
func allocate(path string, mode uint32, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), mode, 0, size)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("allocate %d bytes of %s: %w", size, path, err)
	}
	return nil
}

// HasRoom tells whether the disk of a directory has as much free as writes need that were refused before.
func HasRoom(dir string) bool {
	free, err := freeBytes(dir)
	return err == nil && free >= 2*lowSpaceBytes
}

// freeBytes is what an unprivileged process may still write below a directory.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
