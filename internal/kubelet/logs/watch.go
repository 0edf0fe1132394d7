package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watcher wakes a follower when something happens in the directory of its file, or in that to which a link in the file's place leads.
type watcher struct {
	file   *os.File
	events chan struct{}
	ended  chan struct{}
}

func newWatcher(path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch log files: %w", err)
	}
	dirs := []string{filepath.Dir(path)}
	if target, err := filepath.EvalSymlinks(path); err == nil { // one that isn't there is awaited where it will be
		dirs = append(dirs, filepath.Dir(target))
	}
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify"), events: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.read()
	return w, nil
}

// read turns file system events into wake-ups; what they say doesn't matter.
func (w *watcher) read() {
	defer close(w.ended)
	buf := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.events <- struct{}{}:
		default:
		}
	}
}

// wait returns when something was written (false) or nothing more will be (true).
func (w *watcher) wait(ctx context.Context, done <-chan struct{}) (bool, error) {
	select {
	case <-w.events:
		return false, nil
	case <-done:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (w *watcher) close() {
	w.file.Close()
	<-w.ended
}
