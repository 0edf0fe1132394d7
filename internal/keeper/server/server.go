package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"clipper.dev/clipper/internal/keeper/wire"
)

// Config says where the keeper keeps what.
type Config struct {
	StateDir string // durable: records of containers and their exits
	RunDir   string // volatile: the socket, named pipes, mount points, libcontainer's state
	Build    string // identifies the binary
	Logger   *slog.Logger
}

// SocketName is the name of the keeper's socket in its RunDir.
const SocketName = "keeper.sock"

// Server holds all that the keeper keeps.
type Server struct {
	cfg      Config
	log      *slog.Logger
	listener *net.UnixListener
	// starting bounds how many containers are set up at the same moment; more only wait for each other.
	starting chan struct{}
	warm     *warmer
	rest     rest
	callers  callers
	// births is held by whoever starts a process, and by who looks for what failed starts left, alone.
	births sync.RWMutex

	mu         sync.Mutex
	containers map[string]*container
	sandboxes  map[string]*sandbox
	events     map[chan wire.Container]struct{}
	conns      map[*wire.Conn]struct{}
	handOver   *handOver

	calls    sync.WaitGroup // connections being served
	watchers sync.WaitGroup // goroutines that follow containers
	quit     chan struct{}
	quitOnce sync.Once
}

// New prepares the directories, adopts what an earlier keeper left running and opens the socket.
func New(cfg Config) (*Server, error) {
	s := &Server{
		cfg:        cfg,
		log:        cfg.Logger,
		warm:       newWarmer(),
		rest:       newRest(),
		starting:   make(chan struct{}, max(2, 2*runtime.NumCPU())),
		containers: map[string]*container{},
		sandboxes:  map[string]*sandbox{},
		events:     map[chan wire.Container]struct{}{},
		conns:      map[*wire.Conn]struct{}{},
		quit:       make(chan struct{}),
	}
	for _, dir := range []string{s.recordDir(), s.pipeDir(), s.mountDir(), s.reaperDir(), s.libcontainerDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create %s: %w", dir, err)
		}
	}
	if err := s.prepareMountDir(); err != nil {
		return nil, err
	}
	inherited, err := s.inherit()
	if err != nil {
		return nil, err
	}
	if err := s.adopt(inherited); err != nil {
		return nil, err
	}
	return s, s.listen()
}

func (s *Server) recordDir() string { return filepath.Join(s.cfg.StateDir, "containers") }
func (s *Server) pipeDir() string   { return filepath.Join(s.cfg.RunDir, "pipes") }
func (s *Server) mountDir() string  { return filepath.Join(s.cfg.RunDir, "mnt") }
func (s *Server) rootfsDir() string { return filepath.Join(s.cfg.RunDir, "mnt", "rootfs") }
func (s *Server) volumeDir(id string) string {
	return filepath.Join(s.cfg.RunDir, "mnt", "volumes", id)
}

func (s *Server) reaperDir() string       { return filepath.Join(s.cfg.RunDir, "reapers") }
func (s *Server) shmDir() string          { return filepath.Join(s.cfg.RunDir, "mnt", "shm") }
func (s *Server) libcontainerDir() string { return filepath.Join(s.cfg.RunDir, "libcontainer") }

func (s *Server) listen() error {
	path := filepath.Join(s.cfg.RunDir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return fmt.Errorf("protect %s: %w", path, err)
	}
	s.listener = listener
	return nil
}

// Serve answers calls until Shutdown is called or the context ends. Containers go on running after it.
// If a hand-over was asked for, Serve performs it, and returns only if it fails.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.stop)
	defer stop()
	for {
		sock, err := s.listener.AcceptUnix()
		if err != nil {
			select {
			case <-s.quit:
				return s.finish()
			default:
				return fmt.Errorf("accept: %w", err)
			}
		}
		conn := wire.NewConn(sock)
		s.callers.add(conn) // in the order of arrival
		s.calls.Go(func() { s.serveConn(conn) })
	}
}

func (s *Server) stop() {
	s.quitOnce.Do(func() {
		close(s.quit)
		s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for conn := range s.conns {
			conn.Close()
		}
	})
}

func (s *Server) finish() error {
	s.rest.end()
	s.calls.Wait()
	s.mu.Lock()
	next := s.handOver
	s.mu.Unlock()
	if next != nil {
		return next.execute()
	}
	return nil
}

func (s *Server) serveConn(conn *wire.Conn) {
	defer s.callers.remove(conn)
	defer conn.Close()
	s.mu.Lock()
	s.conns[conn] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	if err := s.greet(conn); err != nil {
		s.log.Warn("connection refused", "error", err)
		return
	}
	for {
		var request wire.Request
		files, err := conn.Receive(&request)
		if err != nil {
			return
		}
		keep := s.dispatch(conn, request, files)
		for _, file := range files {
			file.Close()
		}
		if !keep {
			return
		}
	}
}

func (s *Server) greet(conn *wire.Conn) error {
	uid, err := conn.PeerUID()
	if err != nil {
		return err
	}
	if uid != uint32(os.Geteuid()) {
		return fmt.Errorf("peer is user %d", uid)
	}
	if err := conn.Send(wire.Hello{Version: wire.Version, PID: os.Getpid(), Build: s.cfg.Build}); err != nil {
		return err
	}
	var hello wire.Hello
	_, err = conn.Receive(&hello)
	return err
}

// dispatch performs a call and tells whether the connection can carry another one.
func (s *Server) dispatch(conn *wire.Conn, request wire.Request, files []*os.File) bool {
	switch request.Op {
	case wire.OpExec:
		s.callers.remove(conn)
		s.serveExec(conn, request.Body, files)
		return false
	case wire.OpAttach:
		s.callers.remove(conn)
		s.serveAttach(conn, request.Body, files)
		return false
	case wire.OpEvents:
		s.callers.remove(conn)
		s.serveEvents(conn)
		return false
	case wire.OpState:
		s.callers.remove(conn) // else two such calls might wait for each other
		s.callers.settle()
		s.callers.add(conn)
	}
	body, err := s.answer(request)
	sent := reply(conn, body, err) == nil
	if err == nil && (request.Op == wire.OpShutdown || request.Op == wire.OpHandOver) {
		// Only now: the answer must be out before the connections close.
		s.stop()
		return false
	}
	return sent
}

func (s *Server) answer(request wire.Request) (any, error) {
	switch request.Op {
	case wire.OpState:
		return s.state(), nil
	case wire.OpCreateSandbox:
		return handle(request.Body, s.createSandbox)
	case wire.OpRemoveSandbox:
		return handle(request.Body, nothing(s.removeSandbox))
	case wire.OpPrepare:
		return handle(request.Body, nothing(s.prepare))
	case wire.OpStart:
		defer s.rest.disturb()
		return handle(request.Body, s.start)
	case wire.OpSignal:
		return handle(request.Body, nothing(s.signal))
	case wire.OpRemove:
		defer s.rest.disturb()
		return handle(request.Body, nothing(s.remove))
	case wire.OpResize:
		return handle(request.Body, nothing(s.resize))
	case wire.OpReopenLog:
		return handle(request.Body, nothing(s.reopenLog))
	case wire.OpUpdate:
		return handle(request.Body, nothing(s.update))
	case wire.OpHandOver:
		return handle(request.Body, nothing(s.prepareHandOver))
	case wire.OpShutdown:
		return handle(request.Body, nothing(s.shutdown))
	}
	return nil, invalid("unknown call %q", request.Op)
}

// handle decodes a call's body for its function.
func handle[Req, Resp any](body json.RawMessage, do func(*Req) (Resp, error)) (any, error) {
	var request Req
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, invalid("decode %T: %v", request, err)
	}
	return do(&request)
}

func nothing[Req any](do func(*Req) error) func(*Req) (wire.Empty, error) {
	return func(request *Req) (wire.Empty, error) { return wire.Empty{}, do(request) }
}

func reply(conn *wire.Conn, body any, err error, files ...*os.File) error {
	var response wire.Response
	if err != nil {
		response.Error = &wire.Error{Code: wire.CodeOf(err), Message: err.Error()}
		return conn.Send(response)
	}
	response.Body, err = json.Marshal(body)
	if err != nil {
		response = wire.Response{Error: &wire.Error{Code: wire.CodeInternal, Message: err.Error()}}
	}
	return conn.Send(response, files...)
}

func (s *Server) state() wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var state wire.State
	for _, c := range s.containers {
		state.Containers = append(state.Containers, c.state())
	}
	for _, sb := range s.sandboxes {
		state.Sandboxes = append(state.Sandboxes, sb.state())
	}
	return state
}

// shutdown tells whether the keeper may end; dispatch then ends it.
func (s *Server) shutdown(request *wire.Shutdown) error {
	if !request.Force {
		for _, c := range s.state().Containers {
			if c.Exit == nil {
				return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("container %s is running", c.ID)}
			}
		}
	}
	return nil
}

func (s *Server) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok {
		return nil, notFound("no container %s", id)
	}
	return c, nil
}

func notFound(format string, args ...any) error {
	return &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

func notRunning(id string) error {
	return &wire.Error{Code: wire.CodeNotRunning, Message: fmt.Sprintf("container %s is not running", id)}
}
