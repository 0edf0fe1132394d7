package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	compressSuffix  = ".gz"
	temporarySuffix = ".tmp"
	stampLayout     = "20060102-150405"
)

// Rotator keeps log files within bounds.
type Rotator struct {
	// MaxSize is the length in bytes from which a file is rotated.
	MaxSize int64
	// MaxFiles is how many files a container has at most, the current one included; at least 2.
	MaxFiles int
	// Reopen makes the runtime write to a new file for a container.
	Reopen func(ctx context.Context, containerID string) error
	// Now tells the time.
	Now func() time.Time
}

// Rotate looks at one running container's log and rotates it if it has grown too long.
func (r *Rotator) Rotate(ctx context.Context, containerID, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		// A rotation was cut off between rename and reopening.
		return r.Reopen(ctx, containerID)
	}
	if err != nil {
		return fmt.Errorf("look at log %s: %w", path, err)
	}
	if info.Size() < r.MaxSize {
		return nil
	}
	if err := r.prune(path); err != nil {
		return err
	}
	rotated := path + "." + r.Now().UTC().Format(stampLayout)
	if err := os.Rename(path, rotated); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := r.Reopen(ctx, containerID); err != nil {
		// Without a new file the container's output would be lost: back to how it was.
		return errors.Join(fmt.Errorf("reopen log %s: %w", path, err), os.Rename(rotated, path))
	}
	return nil
}

// prune compresses all rotated files but the newest, and deletes the oldest ones so that there is room for one more.
func (r *Rotator) prune(path string) error {
	all, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("list rotated logs of %s: %w", path, err)
	}
	var old []string
	for _, f := range all {
		if strings.HasSuffix(f, temporarySuffix) {
			if err := os.Remove(f); err != nil {
				return fmt.Errorf("remove an unfinished log file: %w", err)
			}
			continue
		}
		old = append(old, f)
	}
	slices.Sort(old)
	for len(old) > max(r.MaxFiles-2, 0) {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("remove an old log file: %w", err)
		}
		old = old[1:]
	}
	for _, f := range old {
		if strings.HasSuffix(f, compressSuffix) {
			continue
		}
		if err := compress(f); err != nil {
			return err
		}
	}
	return nil
}

func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	defer in.Close()
	tmp := path + temporarySuffix
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	defer func() {
		out.Close()
		if err != nil {
			os.Remove(tmp)
		}
	}()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, in); err != nil {
		return fmt.Errorf("compress log %s: %w", path, err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress log %s: %w", path, err)
	}
	if err := os.Rename(tmp, path+compressSuffix); err != nil {
		return fmt.Errorf("compress log: %w", err)
	}
	return os.Remove(path)
}
