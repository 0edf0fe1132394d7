package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// ResumeEnv names the environment variable that tells a keeper the descriptor of what its predecessor held.
const ResumeEnv = "_CLIPPER_KEEPER_RESUME"

// handOver replaces the program of this process by a newer keeper. The process stays, so it remains
// the containers' parent; its descriptors stay, so terminals and namespaces remain open.
type handOver struct {
	server *Server
	binary *os.File // a sealed copy
}

// inheritance is what a keeper leaves to its successor in descriptors; the rest is in the records.
type inheritance struct {
	Sandboxes  []inheritedSandbox
	Containers []inheritedContainer
}

type inheritedSandbox struct {
	ID         string
	Namespaces map[string]int
	Shm        string
	ReaperPID  int
	ReaperTime uint64
	Cgroup     string
}

type inheritedContainer struct {
	ID        string
	Stdin     int // -1: closed
	Terminal  int // -1: none
	StdinOnce bool
	Pending   map[string][]byte // lines whose end has not come yet
}

func (s *Server) prepareHandOver(request *wire.HandOver) error {
	binary, err := SealedCopy(request.Path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.handOver = &handOver{server: s, binary: binary}
	s.mu.Unlock()
	return nil
}

// SealedCopy copies a program into memory that nobody can change any more, not even a container that
// gets hold of it through the process it starts as.
func SealedCopy(path string) (*os.File, error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	defer source.Close()
	fd, err := unix.MemfdCreate("clipper-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("clipper-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("create memory for the program: %w", err)
	}
	sealed := os.NewFile(uintptr(fd), "clipper-keeper")
	if _, err := io.Copy(sealed, source); err != nil {
		sealed.Close()
		return nil, fmt.Errorf("copy the program: %w", err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(sealed.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		sealed.Close()
		return nil, fmt.Errorf("seal the program: %w", err)
	}
	return sealed, nil
}

// execute runs when no call is served any more. It stops the goroutines that follow containers at a
// point where nothing is half done, and becomes the new program.
func (h *handOver) execute() error {
	s := h.server
	past := time.Unix(1, 0)
	for _, c := range s.containers {
		if c.running() {
			_ = c.proc.pidfd.SetReadDeadline(past)
			c.streams.interrupt(past)
		}
	}
	s.watchers.Wait()
	var leave inheritance
	for _, sb := range s.sandboxes {
		leave.Sandboxes = append(leave.Sandboxes, sb.bequeath())
	}
	for _, c := range s.containers {
		if c.running() {
			leave.Containers = append(leave.Containers, c.bequeath())
		}
	}
	data, err := json.Marshal(leave)
	if err != nil {
		return fmt.Errorf("encode what is handed over: %w", err)
	}
	fd, err := unix.MemfdCreate("clipper-keeper-state", 0)
	if err != nil {
		return fmt.Errorf("create memory for what is handed over: %w", err)
	}
	if _, err := unix.Pwrite(fd, data, 0); err != nil {
		return fmt.Errorf("write what is handed over: %w", err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", h.binary.Fd())
	env := append(os.Environ(), ResumeEnv+"="+strconv.Itoa(fd))
	return fmt.Errorf("become the new keeper: %w", unix.Exec(path, os.Args, env))
}

// keepOpen lets a file survive the change of programs and returns its number.
func keepOpen(file *os.File) int {
	if file == nil {
		return -1
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD, 3) // a duplicate made so is not closed on exec
	if err != nil {
		return -1
	}
	return fd
}

func (sb *sandbox) bequeath() inheritedSandbox {
	left := inheritedSandbox{ID: sb.id, Shm: sb.shm, Namespaces: map[string]int{}}
	for kind, file := range sb.namespaces {
		left.Namespaces[kind] = keepOpen(file)
	}
	if sb.reaper != nil {
		left.ReaperPID, left.ReaperTime = sb.reaper.proc.pid, sb.reaper.proc.startTime
		left.Cgroup = sb.reaper.cgroup
	}
	return left
}

func (c *container) bequeath() inheritedContainer {
	st := c.streams
	left := inheritedContainer{
		ID: c.record.ID, Stdin: -1, Terminal: keepOpen(st.terminal),
		StdinOnce: st.stdinOnce, Pending: st.log.pending,
	}
	if st.stdin != nil && st.stdin != st.terminal {
		left.Stdin = keepOpen(st.stdin)
	}
	return left
}

// inherit reads what the predecessor left, if there was one.
func (s *Server) inherit() (map[string]inheritedContainer, error) {
	value := os.Getenv(ResumeEnv)
	if value == "" {
		return nil, nil
	}
	os.Unsetenv(ResumeEnv)
	fd, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("read what was handed over: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inheritance")
	defer file.Close()
	var left inheritance
	if err := json.NewDecoder(file).Decode(&left); err != nil {
		return nil, fmt.Errorf("read what was handed over: %w", err)
	}
	for _, from := range left.Sandboxes {
		s.inheritSandbox(from)
	}
	containers := map[string]inheritedContainer{}
	for _, from := range left.Containers {
		containers[from.ID] = from
	}
	return containers, nil
}

func (s *Server) inheritSandbox(from inheritedSandbox) {
	sb := &sandbox{id: from.ID, shm: from.Shm, namespaces: map[string]*os.File{}}
	for kind, fd := range from.Namespaces {
		if file := inheritFile(fd, false); file != nil {
			sb.namespaces[kind] = file
		}
	}
	if from.ReaperPID != 0 {
		proc, err := readopt(from.ReaperPID, from.ReaperTime)
		if err != nil {
			s.log.Warn("a sandbox lost its reaper", "sandbox", from.ID, "error", err)
		} else {
			sb.reaper = &reaper{proc: proc, cgroup: from.Cgroup}
		}
	}
	s.sandboxes[sb.id] = sb
}

func inheritFile(fd int, nonblocking bool) *os.File {
	if fd < 0 {
		return nil
	}
	unix.CloseOnExec(fd)
	if nonblocking {
		_ = unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fd), "inherited")
}
