package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// maxLineBytes is the longest content of one line of a log; a longer line is split into partial ones.
const maxLineBytes = 16 << 10

// containerLog writes a container's output in the format of the Container Runtime Interface:
//
//	2016-10-06T00:17:09.669794202Z stdout P the first part of a long line
//	2016-10-06T00:17:09.669794203Z stdout F and its end
//
// A log that cannot be written, on a full disk for instance, loses lines; it never holds the container up.
type containerLog struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	torn    bool              // the last write was cut short: the next one begins on a new line
	pending map[string][]byte // by stream: the beginning of a line whose end has not come yet
	out     []byte
}

// newContainerLog opens the log; an empty path makes a log that keeps nothing.
func newContainerLog(path string) (*containerLog, error) {
	l := &containerLog{path: path, pending: map[string][]byte{}}
	if path == "" {
		return l, nil
	}
	return l, l.reopen()
}

// reopen continues in a new file after the old one was renamed.
func (l *containerLog) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" {
		return errors.New("container has no log")
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	return nil
}

// write takes output of a stream and writes the lines that it completes.
func (l *containerLog) write(stream string, data []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	l.out = l.out[:0]
	for len(data) > 0 {
		before := l.pending[stream]
		end := bytes.IndexByte(data, '\n')
		if end >= 0 && len(before)+end <= maxLineBytes {
			l.line(stream, "F", now, before, data[:end])
			l.pending[stream] = before[:0]
			data = data[end+1:]
			continue
		}
		if room := maxLineBytes - len(before); len(data) >= room {
			l.line(stream, "P", now, before, data[:room])
			l.pending[stream] = before[:0]
			data = data[room:]
			continue
		}
		l.pending[stream] = append(before, data...)
		data = nil
	}
	l.flush()
}

// finish writes what a stream left unfinished at its end and releases its buffer. It stays a partial line, so that who reads the log
// adds no line end that was never written.
func (l *containerLog) finish(stream string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.pending[stream]
	delete(l.pending, stream)
	if l.file == nil || len(rest) == 0 {
		return
	}
	l.out = l.out[:0]
	l.line(stream, "P", now, rest, nil)
	l.flush()
}

func (l *containerLog) line(stream, tag string, now time.Time, parts ...[]byte) {
	l.out = now.UTC().AppendFormat(l.out, "2006-01-02T15:04:05.000000000Z07:00")
	l.out = append(l.out, ' ')
	l.out = append(l.out, stream...)
	l.out = append(l.out, ' ')
	l.out = append(l.out, tag...)
	l.out = append(l.out, ' ')
	for _, part := range parts {
		l.out = append(l.out, part...)
	}
	l.out = append(l.out, '\n')
}

func (l *containerLog) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.torn {
		if _, err := l.file.Write([]byte{'\n'}); err != nil {
			return
		}
		l.torn = false
	}
	if n, err := l.file.Write(l.out); err != nil {
		l.torn = n > 0
	}
	if cap(l.out) > 2*maxLineBytes {
		l.out = nil // a burst's buffer is not kept by a quiet container
	}
}

func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
