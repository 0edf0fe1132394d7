package store

import (
	"context"
	"errors"
	"fmt"
)

// Reread reads the tables anew that hold values which could not be read, because they may be by now: what decrypts them answers
// again, say. Their watchers are cut off, as they are after changes that were missed.
func (s *Store) Reread(ctx context.Context) error {
	var errs []error
	for _, t := range *s.tables.Load() {
		if len(t.Unreadable()) == 0 {
			continue
		}
		s.applying.Lock()
		err := t.reload(ctx)
		s.applying.Unlock()
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s anew: %w", t.cfg.Prefix, err))
		}
	}
	return errors.Join(errs...)
}
