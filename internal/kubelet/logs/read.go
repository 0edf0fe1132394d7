package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Options choose what Read returns.
type Options struct {
	// Tail is the number of lines from the end; nil is all.
	Tail *int64
	// LimitBytes bounds what is written; nil is no bound.
	LimitBytes *int64
	// Since drops lines that are older; the zero time drops none.
	Since time.Time
	// Timestamps puts its time before each line.
	Timestamps bool
	// Stdout and Stderr choose streams; both false is both.
	Stdout, Stderr bool
	// Follow goes on until Done is closed and everything is read, or the context ends.
	Follow bool
	// Done is closed once the container writes no more. Nil is for ever.
	Done <-chan struct{}
}

// FromAPI makes options from those of a request.
func FromAPI(o *corev1.PodLogOptions, now time.Time) Options {
	out := Options{Tail: o.TailLines, LimitBytes: o.LimitBytes, Timestamps: o.Timestamps, Follow: o.Follow}
	if o.SinceTime != nil {
		out.Since = o.SinceTime.Time
	}
	if o.SinceSeconds != nil {
		out.Since = now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.Stream != nil {
		out.Stdout = *o.Stream == corev1.LogStreamStdout
		out.Stderr = *o.Stream == corev1.LogStreamStderr
	}
	return out
}

// errLimit ends a read whose byte limit is reached.
var errLimit = errors.New("byte limit reached")

// reader is one Read.
type reader struct {
	path           string
	opts           Options
	stdout, stderr io.Writer
	left           int64 // bytes, if limited
	midLine        bool  // the last text had no newline
	file           *os.File
	buf            *bufio.Reader
	partial        []byte // what stands in the file after the last newline
}

// Read writes a container's log to stdout and stderr.
func Read(ctx context.Context, path string, opts Options, stdout, stderr io.Writer) error {
	r := &reader{path: path, opts: opts, stdout: stdout, stderr: stderr}
	if opts.LimitBytes != nil {
		r.left = *opts.LimitBytes
	}
	var watch *watcher
	if opts.Follow {
		var err error
		if watch, err = newWatcher(path); err != nil {
			return err
		}
		defer watch.close()
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { r.file.Close() }()
	if opts.Tail != nil {
		if err := seekTail(r.file, *opts.Tail); err != nil {
			return fmt.Errorf("find the last %d lines of %s: %w", *opts.Tail, path, err)
		}
	}
	err := r.run(ctx, watch)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

func (r *reader) open() error {
	f, err := os.Open(r.path)
	if err != nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: %w", r.path, err)
	}
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.buf = f, bufio.NewReaderSize(f, 32<<10)
	return nil
}

// run copies to the end, and with a watcher waits there for more.
func (r *reader) run(ctx context.Context, watch *watcher) error {
	for {
		if err := r.copyLines(ctx); err != nil || watch == nil {
			return err
		}
		rotated, err := r.rotated()
		if err != nil {
			return err
		}
		if rotated {
			// The rest of the old file, written between the last read and the rename, comes first.
			if err := r.copyLines(ctx); err != nil {
				return err
			}
			r.partial = nil
			if err := r.open(); err != nil {
				return err
			}
			continue
		}
		done, err := watch.wait(ctx, r.opts.Done)
		if err != nil {
			return err
		}
		if done {
			// The container wrote no more after this: read what is there and end.
			return r.copyLines(ctx)
		}
	}
}

// rotated tells whether the path names another file now.
func (r *reader) rotated() (bool, error) {
	now, err := os.Stat(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // between rename and reopening
	}
	if err != nil {
		return false, fmt.Errorf("follow the log: %w", err)
	}
	open, err := r.file.Stat()
	if err != nil {
		return false, fmt.Errorf("follow the log: %w", err)
	}
	return !os.SameFile(now, open), nil
}

// copyLines copies complete lines up to the end of the file.
func (r *reader) copyLines(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk, err := r.buf.ReadSlice('\n')
		raw := chunk
		if len(r.partial) > 0 || err != nil {
			r.partial = append(r.partial, chunk...)
			raw = r.partial
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read log %s: %w", r.path, err)
		}
		werr := r.write(raw)
		r.partial = r.partial[:0]
		if werr != nil {
			return werr
		}
	}
}

// write gives one line of the file to its stream. A line that doesn't parse is passed over: a crash may have torn it.
func (r *reader) write(raw []byte) error {
	l, err := parse(raw)
	if err != nil {
		return nil
	}
	if l.time.Before(r.opts.Since) {
		return nil
	}
	if one := r.opts.Stdout != r.opts.Stderr; one && l.stderr != r.opts.Stderr {
		return nil
	}
	w := r.stdout
	if l.stderr {
		w = r.stderr
	}
	text := l.text
	if r.opts.Timestamps && !r.midLine {
		text = append(append(bytes.Clone(l.stamp), ' '), text...)
	}
	r.midLine = !bytes.HasSuffix(l.text, []byte{'\n'})
	limited := r.opts.LimitBytes != nil
	if limited && int64(len(text)) >= r.left {
		if _, err := w.Write(text[:r.left]); err != nil {
			return err
		}
		return errLimit
	}
	r.left -= int64(len(text))
	_, err = w.Write(text)
	return err
}

// seekTail moves to where the last n lines begin.
func seekTail(f *os.File, n int64) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return err
	}
	const block = 8 << 10
	buf := make([]byte, block)
	var found int64
	for pos := end; pos > 0; {
		size := min(block, pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if found++; found == n {
				_, err := f.Seek(pos+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
