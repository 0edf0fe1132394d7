package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBytes is how much output is read at once.
	readBytes = 32 << 10
	// attachPatience is how long a reader that is attached may hold up the container before it is cut off.
	attachPatience = 10 * time.Second
)

var readBuffers = sync.Pool{New: func() any { return new([readBytes]byte) }}

// streams are a container's standard streams on the keeper's side.
type streams struct {
	log       *containerLog
	terminal  *os.File // the master, if the container has a terminal
	stdout    *os.File
	stderr    *os.File
	stdinOnce bool
	pumps     sync.WaitGroup
	handed    atomic.Bool // the streams go on under another keeper: what is pending stays pending

	mu       sync.Mutex
	stdin    *os.File // nil when it is closed or was not asked for
	attached map[*attachment]struct{}
	ended    chan struct{} // closed when the output has ended
}

// attachment is somebody who reads a container's output as it comes.
type attachment struct {
	stdout, stderr *os.File
	done           chan struct{} // closed when it is cut off
}

func newStreams(log *containerLog) *streams {
	return &streams{log: log, attached: map[*attachment]struct{}{}, ended: make(chan struct{})}
}

// childFiles are the container's ends of its streams.
type childFiles struct {
	stdin, stdout, stderr *os.File
}

func (c *childFiles) close() {
	for _, file := range []*os.File{c.stdin, c.stdout, c.stderr} {
		if file != nil {
			file.Close()
		}
	}
}

// openPipes makes the streams of a container without a terminal. Output travels through named pipes
// that the container holds open for reading too: while no keeper reads, nothing is lost and no writer
// gets a broken pipe, and a new keeper finds the pipe by its name.
func (st *streams) openPipes(dir string, stdin bool) (*childFiles, error) {
	child := &childFiles{}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	for _, pipe := range []struct {
		name   string
		ours   **os.File
		theirs **os.File
	}{{"stdout", &st.stdout, &child.stdout}, {"stderr", &st.stderr, &child.stderr}} {
		path := filepath.Join(dir, pipe.name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			child.close()
			return nil, fmt.Errorf("create pipe %s: %w", path, err)
		}
		var err error
		if *pipe.ours, err = openReader(path); err == nil {
			*pipe.theirs, err = openWriter(path)
		}
		if err != nil {
			child.close()
			return nil, err
		}
	}
	if !stdin {
		return child, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		child.close()
		return nil, fmt.Errorf("create stdin: %w", err)
	}
	child.stdin, st.stdin = r, w
	return child, nil
}

// openReader opens the keeper's end, which the poller watches.
func openReader(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open pipe %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openWriter opens the container's end, which blocks as programs expect of their output.
func openWriter(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open pipe %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// useTerminal takes the master of the container's terminal.
func (st *streams) useTerminal(master *os.File, stdin bool) error {
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	master.Close()
	if err != nil {
		return fmt.Errorf("hold the terminal: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("hold the terminal: %w", err)
	}
	st.terminal = os.NewFile(uintptr(fd), "terminal")
	st.stdout = st.terminal
	if stdin {
		st.stdin = st.terminal
	}
	return nil
}

// pump begins to read the output into the log and to whoever is attached.
func (st *streams) pump() {
	st.pumps.Go(func() { st.pumpOne("stdout", st.stdout) })
	if st.stderr != nil {
		st.pumps.Go(func() { st.pumpOne("stderr", st.stderr) })
	}
}

func (st *streams) pumpOne(name string, from *os.File) {
	defer func() {
		if !st.handed.Load() {
			st.log.finish(name, time.Now())
		}
	}()
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	for {
		var n int
		var readErr error
		// A buffer is taken only when there is something to read: an idle container holds none.
		err := raw.Read(func(fd uintptr) bool {
			buffer := readBuffers.Get().(*[readBytes]byte)
			defer readBuffers.Put(buffer)
			n, readErr = unix.Read(int(fd), buffer[:])
			if readErr == unix.EAGAIN {
				return false
			}
			if n > 0 {
				st.deliver(name, buffer[:n])
			}
			return true
		})
		if err != nil || (readErr != nil && readErr != unix.EINTR) || (n == 0 && readErr == nil) {
			return
		}
	}
}

func (st *streams) deliver(name string, data []byte) {
	st.log.write(name, data, time.Now())
	st.mu.Lock()
	readers := make([]*attachment, 0, len(st.attached))
	for a := range st.attached {
		readers = append(readers, a)
	}
	st.mu.Unlock()
	for _, a := range readers {
		to := a.stdout
		if name == "stderr" {
			to = a.stderr
		}
		if to == nil {
			continue
		}
		_ = to.SetWriteDeadline(time.Now().Add(attachPatience))
		if _, err := to.Write(data); err != nil {
			st.detach(a)
		}
	}
}

func (st *streams) attach(a *attachment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.attached[a] = struct{}{}
}

func (st *streams) detach(a *attachment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, ok := st.attached[a]; ok {
		delete(st.attached, a)
		close(a.done)
	}
}

// feed copies to the container's input until the source ends.
func (st *streams) feed(source io.Reader) {
	st.mu.Lock()
	stdin := st.stdin
	st.mu.Unlock()
	if stdin == nil {
		return
	}
	_, _ = io.Copy(stdin, source)
	if st.stdinOnce {
		st.closeStdin()
	}
}

func (st *streams) closeStdin() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.stdin != nil && st.stdin != st.terminal {
		st.stdin.Close()
	}
	st.stdin = nil
}

// drain waits until the output has ended, which it does when the last process that holds it has; a
// process outside the container that took the output along is not waited for longer than the patience.
func (st *streams) drain(patience time.Duration) {
	done := make(chan struct{})
	go func() {
		st.pumps.Wait()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		st.closeOutput()
		<-done
	}
	st.closeOutput()
	st.closeStdin()
	st.log.close()
	close(st.ended)
}

func (st *streams) closeOutput() {
	for _, file := range []*os.File{st.stdout, st.stderr} {
		if file != nil {
			file.Close()
		}
	}
}

// interrupt stops the pumps for a hand-over; what they have not read stays in the pipes.
func (st *streams) interrupt(at time.Time) {
	st.handed.Store(true)
	for _, file := range []*os.File{st.stdout, st.stderr} {
		if file != nil {
			_ = file.SetReadDeadline(at)
		}
	}
	st.pumps.Wait()
}

// discard releases streams that never carried anything.
func (st *streams) discard() {
	st.closeOutput()
	st.closeStdin()
	st.log.close()
}

func (st *streams) resize(width, height uint16) error {
	if st.terminal == nil {
		return errors.New("container has no terminal")
	}
	raw, err := st.terminal.SyscallConn()
	if err != nil {
		return err
	}
	size := unix.Winsize{Col: width, Row: height}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) { ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size) })
	return errors.Join(err, ioctlErr)
}
