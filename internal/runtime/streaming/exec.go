package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/keeper/wire"
)

// drainPatience is how long output is still read after a process has ended: something that it left
// running may hold its streams open forever.
const drainPatience = 2 * time.Second

// Streams are the caller's ends; each may be nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan remotecommand.TerminalSize
}

// Exec runs a process and connects its streams until it has ended.
func Exec(ctx context.Context, client *keeper.Client, request *wire.Exec, streams Streams) error {
	run := execPipes
	if request.Terminal {
		run = execTerminal
	}
	code, err := run(ctx, client, request, streams)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

// pipes are the two ends of a process's streams.
type pipes struct {
	ours, theirs [3]*os.File
}

// openPipes makes a pipe for every stream that somebody wants; the others are /dev/null.
func openPipes(streams Streams) (*pipes, error) {
	p := &pipes{}
	for i, wanted := range [3]bool{streams.Stdin != nil, streams.Stdout != nil, streams.Stderr != nil} {
		if !wanted {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				p.close()
				return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
			}
			p.theirs[i] = null
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			p.close()
			return nil, fmt.Errorf("create pipe: %w", err)
		}
		p.ours[i], p.theirs[i] = r, w
		if i == 0 {
			p.ours[i], p.theirs[i] = w, r
		}
	}
	return p, nil
}

func (p *pipes) close() {
	p.closeTheirs()
	for _, file := range p.ours {
		if file != nil {
			file.Close()
		}
	}
}

func (p *pipes) closeTheirs() {
	for _, file := range p.theirs {
		if file != nil {
			file.Close()
		}
	}
}

func execPipes(ctx context.Context, client *keeper.Client, request *wire.Exec, streams Streams) (int, error) {
	p, err := openPipes(streams)
	if err != nil {
		return 0, err
	}
	defer p.close()
	session, err := client.Exec(ctx, request, p.theirs[:]...)
	p.closeTheirs()
	if err != nil {
		return 0, err
	}
	p.feed(streams.Stdin)
	drained := p.drain(streams)
	code, err := session.Wait(ctx)
	awaitDrain(drained, p.ours[1:])
	return code, err
}

// feed copies the caller's input in a goroutine that ends with the input, or with the process: its
// source is a network stream, which its owner closes.
func (p *pipes) feed(stdin io.Reader) {
	if stdin == nil {
		return
	}
	go func() {
		_, _ = io.Copy(p.ours[0], stdin)
		p.ours[0].Close()
	}()
}

// drain copies the output until it ends.
func (p *pipes) drain(streams Streams) <-chan struct{} {
	var wg sync.WaitGroup
	for i, to := range map[int]io.Writer{1: streams.Stdout, 2: streams.Stderr} {
		if to != nil {
			wg.Go(func() { _, _ = io.Copy(to, p.ours[i]) })
		}
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// awaitDrain waits for the end of the output, and cuts it off when it does not come.
func awaitDrain(done <-chan struct{}, files []*os.File) {
	timer := time.NewTimer(drainPatience)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	for _, file := range files {
		if file != nil {
			file.Close()
		}
	}
	<-done
}

func execTerminal(ctx context.Context, client *keeper.Client, request *wire.Exec, streams Streams) (int, error) {
	session, err := client.Exec(ctx, request)
	if err != nil {
		return 0, err
	}
	if session.Terminal == nil {
		return 0, errors.New("the keeper sent no terminal")
	}
	master, err := pollable(session.Terminal)
	if err != nil {
		return 0, err
	}
	defer master.Close()
	p := &pipes{ours: [3]*os.File{master, master, nil}}
	if streams.Stdin != nil {
		go func() { _, _ = io.Copy(master, streams.Stdin) }()
	}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	go follow(ended, streams.Resize, func(size remotecommand.TerminalSize) { resize(master, size) })
	drained := p.drain(Streams{Stdout: orDiscard(streams.Stdout)})
	code, err := session.Wait(ctx)
	awaitDrain(drained, []*os.File{master})
	return code, err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// follow applies sizes as they come.
func follow(ctx context.Context, sizes <-chan remotecommand.TerminalSize, apply func(remotecommand.TerminalSize)) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if size.Width > 0 && size.Height > 0 {
				apply(size)
			}
		case <-ctx.Done():
			return
		}
	}
}

func resize(terminal *os.File, size remotecommand.TerminalSize) {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return // closed: the process has ended
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: size.Width, Row: size.Height})
	})
}

// pollable makes reads of a passed file end when it is closed.
func pollable(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	file.Close()
	if err != nil {
		return nil, fmt.Errorf("take a passed file: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("take a passed file: %w", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// Attach connects the caller with a container's own streams until its output has ended, or the caller leaves.
func Attach(ctx context.Context, client *keeper.Client, id string, tty bool, streams Streams) error {
	if tty {
		streams.Stderr = nil // a terminal has one output
	}
	p, err := openPipes(streams)
	if err != nil {
		return err
	}
	defer p.close()
	var passed []*os.File
	for i, ours := range p.ours {
		if ours != nil {
			passed = append(passed, p.theirs[i])
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if streams.Resize != nil {
		go follow(ctx, streams.Resize, func(size remotecommand.TerminalSize) {
			_ = client.Resize(ctx, id, size.Width, size.Height)
		})
	}
	var drained <-chan struct{}
	request := &wire.Attach{ID: id, Stdin: streams.Stdin != nil, Stdout: streams.Stdout != nil, Stderr: streams.Stderr != nil}
	err = client.Attach(ctx, request, func() {
		p.closeTheirs()
		p.feed(streams.Stdin)
		drained = p.drain(streams)
	}, passed...)
	if drained != nil {
		awaitDrain(drained, p.ours[1:])
	}
	return err
}

// limited keeps the beginning of an output and lets the rest pass by.
type limited struct {
	data []byte
	max  int
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.max - len(l.data); room > 0 {
		l.data = append(l.data, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// syncOutputBytes bounds the output that ExecSync returns.
const syncOutputBytes = 16 << 20

// ExecSync runs a process without input and returns its output and exit code.
func ExecSync(ctx context.Context, client *keeper.Client, request *wire.Exec) (stdout, stderr []byte, code int, err error) {
	out, errs := &limited{max: syncOutputBytes}, &limited{max: syncOutputBytes}
	code, err = execPipes(ctx, client, request, Streams{Stdout: out, Stderr: errs})
	return out.data, errs.data, code, err
}
