package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

const (
	// A segment of the write-ahead log has this size, and one more is ready ahead of it.
	walSegmentBytes = 4 << 20
	// recordBytes is about what a write's record in the log takes beside its key and value.
	recordBytes = 200
	// After so much has been logged it is seen to that a further one is ready.
	segmentLookBytes = walSegmentBytes / 4
	// zeroBytes is how much of a segment is written at once: the log's own writes wait behind it.
	zeroBytes = 256 << 10
)

// segments fills etcd's further log segments with zeros before they are used. etcd only reserves their blocks, and then each of its writes has
// to make durable too that a block is in use: a third more work, and time, for every write to the database.
//
// etcd takes its next segment from the files 0.tmp and 1.tmp in turns, makes them if they aren't there, and has one open. The other one is made here.
type segments struct {
	dir    string
	logged atomic.Int64  // bytes since the last look
	look   chan struct{} // holds a wish for one
}

func newSegments(dir string) *segments { return &segments{dir: dir, look: make(chan struct{}, 1)} }

// note counts what has been logged.
func (s *segments) note(bytes int) {
	if s.logged.Add(int64(bytes)) < segmentLookBytes {
		return
	}
	s.logged.Store(0)
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// fill makes segments until ended is closed. One that can't be made, on a full disk for instance, is left to etcd.
func (s *segments) fill(ended <-chan struct{}, failed func(error)) {
	for {
		select {
		case <-ended:
			return
		case <-s.look:
			if err := s.prepare(); err != nil {
				failed(err)
			}
		}
	}
}

// prepare makes the segment that etcd will take after the one that it has open.
func (s *segments) prepare() error {
	missing := ""
	for _, name := range []string{"0.tmp", "1.tmp"} {
		path := filepath.Join(s.dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if missing != "" {
				return nil // etcd is about to make one of them
			}
			missing = path
		} else if err != nil {
			return err
		}
	}
	if missing == "" {
		return nil
	}
	made := filepath.Join(s.dir, "zeros.tmp")
	defer os.Remove(made)
	if err := writeZeros(made, walSegmentBytes); err != nil {
		return fmt.Errorf("prepare a segment of the write-ahead log: %w", err)
	}
	// Only to where nothing is: etcd may have come first.
	if err := os.Link(made, missing); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("prepare a segment of the write-ahead log: %w", err)
	}
	return nil
}

// writeZeros makes a file of zeros, durably.
func writeZeros(path string, size int) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zeros := make([]byte, zeroBytes)
	for written := 0; written < size; written += zeroBytes {
		if _, err := f.Write(zeros); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}
