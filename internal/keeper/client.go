package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"clipper.dev/clipper/internal/keeper/wire"
)

// socketName is where a keeper listens in its run folder.
const socketName = "keeper.sock"

// idleConns bounds the connections that are kept open between calls.
const idleConns = 4

// Client calls a keeper. It is safe for concurrent use; each call has a connection to itself.
type Client struct {
	socket string

	mu     sync.Mutex
	idle   []*wire.Conn
	closed bool
}

// NewClient makes a client for the keeper of a run folder. It connects with the first call.
func NewClient(runDir string) *Client {
	return &Client{socket: filepath.Join(runDir, socketName)}
}

// Close drops the client's idle connections; a call in progress ends by its context.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.Close()
	}
	c.idle = nil
}

// dial opens a connection and exchanges greetings.
func (c *Client) dial(ctx context.Context) (*wire.Conn, *wire.Hello, error) {
	var dialer net.Dialer
	sock, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the keeper: %w", err)
	}
	conn := wire.NewConn(sock.(*net.UnixConn))
	stop := interrupt(ctx, conn)
	defer stop()
	var hello wire.Hello
	if _, err := conn.Receive(&hello); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("greet the keeper: %w", err)
	}
	if err := conn.Send(wire.Hello{Version: wire.Version, PID: os.Getpid()}); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("greet the keeper: %w", err)
	}
	return conn, &hello, nil
}

// Hello tells who the keeper is.
func (c *Client) Hello(ctx context.Context) (*wire.Hello, error) {
	conn, hello, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.release(conn)
	return hello, nil
}

// interrupt makes the calls on a connection fail once the context ends.
func interrupt(ctx context.Context, conn *wire.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

func (c *Client) acquire(ctx context.Context) (conn *wire.Conn, reused bool, err error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		conn = c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, true, nil
	}
	c.mu.Unlock()
	conn, _, err = c.dial(ctx)
	return conn, false, err
}

func (c *Client) release(conn *wire.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= idleConns {
		conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

// open sends a request on a connection and leaves the connection to the caller.
func (c *Client) open(ctx context.Context, op wire.Op, body any, files ...*os.File) (*wire.Conn, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", op, err)
	}
	for {
		conn, reused, err := c.acquire(ctx)
		if err != nil {
			return nil, err
		}
		err = conn.Send(wire.Request{Op: op, Body: data}, files...)
		if err == nil {
			return conn, nil
		}
		conn.Close()
		if !reused { // an idle connection may have been closed by a keeper that is gone; a new one tells
			return nil, fmt.Errorf("call the keeper: %w", err)
		}
	}
}

// receive reads one response.
func receive[Resp any](conn *wire.Conn) (*Resp, []*os.File, error) {
	var response wire.Response
	files, err := conn.Receive(&response)
	if err != nil {
		return nil, nil, fmt.Errorf("hear from the keeper: %w", err)
	}
	if response.Error != nil {
		return nil, files, response.Error
	}
	body := new(Resp)
	if len(response.Body) > 0 {
		if err := json.Unmarshal(response.Body, body); err != nil {
			return nil, files, fmt.Errorf("decode the keeper's answer: %w", err)
		}
	}
	return body, files, nil
}

func call[Resp any](ctx context.Context, c *Client, op wire.Op, body any) (*Resp, error) {
	conn, err := c.open(ctx, op, body)
	if err != nil {
		return nil, err
	}
	stop := interrupt(ctx, conn)
	answer, _, err := receive[Resp](conn)
	var refused *wire.Error
	if !stop() || (err != nil && !errors.As(err, &refused)) {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return answer, err
	}
	c.release(conn)
	return answer, err
}

// State lists everything that the keeper keeps.
func (c *Client) State(ctx context.Context) (*wire.State, error) {
	return call[wire.State](ctx, c, wire.OpState, wire.Empty{})
}

// CreateSandbox makes a pod's namespaces.
func (c *Client) CreateSandbox(ctx context.Context, request *wire.CreateSandbox) (*wire.Sandbox, error) {
	return call[wire.Sandbox](ctx, c, wire.OpCreateSandbox, request)
}

// RemoveSandbox releases a pod's namespaces; it succeeds when there are none.
func (c *Client) RemoveSandbox(ctx context.Context, id string) error {
	_, err := call[wire.Empty](ctx, c, wire.OpRemoveSandbox, wire.Target{ID: id})
	return err
}

// Prepare tells the keeper that a container is about to be started, which makes the start faster.
func (c *Client) Prepare(ctx context.Context) error {
	_, err := call[wire.Empty](ctx, c, wire.OpPrepare, wire.Empty{})
	return err
}

// StartContainer makes a container and starts its process.
func (c *Client) StartContainer(ctx context.Context, request *wire.Start) (*wire.Started, error) {
	return call[wire.Started](ctx, c, wire.OpStart, request)
}

// Signal sends a signal to a container.
func (c *Client) Signal(ctx context.Context, request *wire.Signal) error {
	_, err := call[wire.Empty](ctx, c, wire.OpSignal, request)
	return err
}

// RemoveContainer ends a container and forgets it; it succeeds when there is none.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	_, err := call[wire.Empty](ctx, c, wire.OpRemove, wire.Target{ID: id})
	return err
}

// Resize sets the size of a container's terminal.
func (c *Client) Resize(ctx context.Context, id string, width, height uint16) error {
	_, err := call[wire.Empty](ctx, c, wire.OpResize, wire.Resize{ID: id, Width: width, Height: height})
	return err
}

// ReopenLog continues a container's log in a new file.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	_, err := call[wire.Empty](ctx, c, wire.OpReopenLog, wire.Target{ID: id})
	return err
}

// Update changes a running container's resources.
func (c *Client) Update(ctx context.Context, request *wire.Update) error {
	_, err := call[wire.Empty](ctx, c, wire.OpUpdate, request)
	return err
}

// HandOver has the keeper become another binary; what it keeps stays.
func (c *Client) HandOver(ctx context.Context, path string) error {
	_, err := call[wire.Empty](ctx, c, wire.OpHandOver, wire.HandOver{Path: path})
	return err
}

// Shutdown ends the keeper; without force only if no container runs.
func (c *Client) Shutdown(ctx context.Context, force bool) error {
	_, err := call[wire.Empty](ctx, c, wire.OpShutdown, wire.Shutdown{Force: force})
	return err
}

// Events calls the function for every container that ends, until the context ends or the keeper
// leaves. subscribed, if not nil, is called once no later exit can be missed.
func (c *Client) Events(ctx context.Context, subscribed func(), each func(wire.Container)) error {
	conn, err := c.open(ctx, wire.OpEvents, wire.Empty{})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := interrupt(ctx, conn)
	defer stop()
	if _, _, err := receive[wire.Empty](conn); err != nil {
		return err
	}
	if subscribed != nil {
		subscribed()
	}
	for {
		exit, _, err := receive[wire.Container](conn)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		each(*exit)
	}
}

// Session is a process that Exec started.
type Session struct {
	PID int
	// Terminal is the master of the process's terminal, if it has one; the caller closes it.
	Terminal *os.File
	conn     *wire.Conn
}

// Exec runs a further process in a container. Without a terminal its streams are the three given files.
func (c *Client) Exec(ctx context.Context, request *wire.Exec, streams ...*os.File) (*Session, error) {
	conn, err := c.open(ctx, wire.OpExec, request, streams...)
	if err != nil {
		return nil, err
	}
	stop := interrupt(ctx, conn)
	started, files, err := receive[wire.ExecStarted](conn)
	if !stop() || err != nil {
		conn.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	session := &Session{PID: started.PID, conn: conn}
	if len(files) > 0 {
		session.Terminal = files[0]
	}
	return session, nil
}

// Wait returns the exit code of the process; when the context ends first, the process is killed.
func (s *Session) Wait(ctx context.Context) (int, error) {
	defer s.conn.Close()
	stop := interrupt(ctx, s.conn)
	defer stop()
	exited, _, err := receive[wire.ExecExited](s.conn)
	if err != nil {
		return 0, errors.Join(ctx.Err(), err)
	}
	return exited.Code, nil
}

// Attach connects files with a container's streams and returns when its output has ended. attached, if
// not nil, is called when the files are connected.
func (c *Client) Attach(ctx context.Context, request *wire.Attach, attached func(), streams ...*os.File) error {
	conn, err := c.open(ctx, wire.OpAttach, request, streams...)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := interrupt(ctx, conn)
	defer stop()
	if _, _, err := receive[wire.Empty](conn); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if attached != nil {
		attached()
	}
	if _, _, err := receive[wire.Empty](conn); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}
