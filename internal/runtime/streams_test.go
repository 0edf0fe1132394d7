package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// session is a client of exec or attach.
type session struct {
	n      *node
	input  *io.PipeWriter
	mu     sync.Mutex
	output bytes.Buffer
	ended  chan error
	sizes  chan remotecommand.TerminalSize
}

func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(p)
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

func (s *session) write(text string) {
	s.n.t.Helper()
	if _, err := io.WriteString(s.input, text); err != nil {
		s.n.t.Fatalf("write to session: %v", err)
	}
}

func (s *session) expect(text string) {
	s.n.t.Helper()
	s.n.eventually(fmt.Sprintf("session says %q", text), func() bool { return strings.Contains(s.text(), text) })
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *session) Next() *remotecommand.TerminalSize {
	size, ok := <-s.sizes
	if !ok {
		return nil
	}
	return &size
}

func (n *node) connect(address string, tty bool) *session {
	n.t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		n.t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, target)
	if err != nil {
		n.t.Fatal(err)
	}
	r, w := io.Pipe()
	s := &session{n: n, input: w, ended: make(chan error, 1), sizes: make(chan remotecommand.TerminalSize, 1)}
	options := remotecommand.StreamOptions{Stdin: r, Stdout: s, Tty: tty}
	if tty {
		options.TerminalSizeQueue = s
	} else {
		options.Stderr = s
	}
	go func() { s.ended <- executor.StreamWithContext(context.Background(), options) }()
	return s
}

func (n *node) attach(id string, tty bool) *session {
	n.t.Helper()
	response, err := n.Attach(context.Background(), &runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: !tty, Tty: tty})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.connect(response.Url, tty)
}

func (n *node) execStream(id string, tty bool, args ...string) *session {
	n.t.Helper()
	response, err := n.Exec(context.Background(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: args, Stdin: true, Stdout: true, Stderr: !tty, Tty: tty})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.connect(response.Url, tty)
}

func TestExecStreams(t *testing.T) {
	n := newNode(t)
	id := n.runPod().run("pause")
	t.Run("input_and_output_through_pipes", func(t *testing.T) {
		s := n.execStream(id, false, "/probe", "cat")
		s.write("to and fro\n")
		s.expect("to and fro")
		s.input.Close()
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
		s.expect("end of input")
	})
	t.Run("exit_code", func(t *testing.T) {
		s := n.execStream(id, false, "/probe", "exit", "6")
		if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "exit code 6") {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		s := n.execStream(id, true, "/probe", "terminal")
		s.sizes <- remotecommand.TerminalSize{Width: 100, Height: 30}
		s.expect("ready")
		s.write("quit\n")
		s.expect("heard quit")
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
		close(s.sizes)
	})
	t.Run("large_output_arrives_whole", func(t *testing.T) {
		s := n.execStream(id, false, "/probe", "long", "3000000")
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
		if got := len(s.text()); got != 3000000 {
			t.Errorf("%d bytes arrived", got)
		}
	})
	t.Run("sync_timeout_kills", func(t *testing.T) {
		_, err := n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"/probe", "sleep"}, Timeout: 1})
		if err == nil || !strings.Contains(err.Error(), "timeout 1s exceeded") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAttach(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	t.Run("stdin_once_ends_with_the_first_client", func(t *testing.T) {
		config := p.containerConfig("cat")
		config.Stdin, config.StdinOnce = true, true
		id := p.start(config)
		s := n.attach(id, false)
		s.write("hello there\n")
		s.expect("hello there")
		s.input.Close()
		n.waitExit(id)
		s.expect("end of input")
		if got := n.log(id); got != "hello there\nend of input\n" {
			t.Errorf("log is %q", got)
		}
	})
	t.Run("a_terminal_is_found_again_after_a_restart", func(t *testing.T) {
		config := p.containerConfig("terminal")
		config.Stdin, config.Tty = true, true
		id := p.start(config)
		s := n.attach(id, true)
		s.write("first\n")
		s.expect("heard first")
		n.restart()
		s = n.attach(id, true)
		s.write("second\n")
		s.expect("heard second")
		s.write("quit\n")
		n.waitExit(id)
	})
}

func TestLog(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	t.Run("long_lines_are_split_and_found_whole", func(t *testing.T) {
		id := p.run("long", "100000")
		n.waitExit(id)
		if got := len(n.log(id)); got != 100000 { // no line end was written, and none is added
			t.Errorf("%d bytes are in the log", got)
		}
	})
	t.Run("rotation_loses_nothing", func(t *testing.T) {
		id := p.run("count")
		path := n.status(id).LogPath
		n.eventually("the log grows", func() bool { info, err := os.Stat(path); return err == nil && info.Size() > 1000 })
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.ReopenContainerLog(context.Background(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		n.eventually("the new log grows", func() bool { info, err := os.Stat(path); return err == nil && info.Size() > 1000 })
		if _, err := n.StopContainer(context.Background(), &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(path + ".1")
		if err != nil {
			t.Fatal(err)
		}
		current, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(old, current...), 0o600); err != nil {
			t.Fatal(err)
		}
		checkCount(t, n.log(id))
	})
}

func TestPortForward(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	p.ready(p.containerConfig("serve", "127.0.0.1:8080"))
	response, err := n.PortForward(context.Background(), &runtimeapi.PortForwardRequest{PodSandboxId: p.id, Port: []int32{8080}})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(response.Url)
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("forward: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("the forwarder is not ready")
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, ports[0].Local, "over the wall"); got != "echo over the wall\n" {
		t.Errorf("got %q", got)
	}
	close(stop)
	<-done
}
