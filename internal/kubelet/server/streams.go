package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"clipper.dev/clipper/internal/kubelet/cri"
)

// streams are the streams that a client of exec or attach wants.
type streams struct {
	stdin, stdout, stderr, tty bool
}

func streamsOf(q url.Values) (streams, error) {
	on := func(name string) bool { return q.Get(name) == "1" || strings.EqualFold(q.Get(name), "true") }
	s := streams{
		stdin: on(corev1.ExecStdinParam) || on("stdin"), stdout: on(corev1.ExecStdoutParam) || on("stdout"),
		stderr: on(corev1.ExecStderrParam) || on("stderr"), tty: on(corev1.ExecTTYParam),
	}
	if s.tty {
		s.stderr = false // a terminal has one output
	}
	if !s.stdin && !s.stdout && !s.stderr {
		return s, errors.New("you must specify at least 1 of stdin, stdout, stderr")
	}
	return s, nil
}

func (s *server) serveExec(w http.ResponseWriter, r *http.Request) {
	want, err := streamsOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, c, ok := s.container(w, r)
	if !ok {
		return
	}
	resp, err := s.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: c.ID, Cmd: r.URL.Query()[corev1.ExecCommandParam], Tty: want.tty, Stdin: want.stdin, Stdout: want.stdout, Stderr: want.stderr,
	})
	s.passOn(w, r, resp.GetUrl(), err, want)
}

func (s *server) serveAttach(w http.ResponseWriter, r *http.Request) {
	want, err := streamsOf(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, c, ok := s.container(w, r)
	if !ok {
		return
	}
	// The terminal is the container's, whatever the client says.
	want.tty = hasTerminal(pod.Pod, c.Name)
	if want.tty {
		want.stderr = false
	}
	resp, err := s.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: c.ID, Stdin: want.stdin, Stdout: want.stdout, Stderr: want.stderr, Tty: want.tty,
	})
	s.passOn(w, r, resp.GetUrl(), err, want)
}

func hasTerminal(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return list[i].TTY
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return pod.Spec.EphemeralContainers[i].TTY
		}
	}
	return false
}

// passOn connects the client with the address that the runtime has given.
func (s *server) passOn(w http.ResponseWriter, r *http.Request, location string, err error, want streams) {
	to, ok := s.location(w, location, err)
	if !ok {
		return
	}
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		s.translate(w, r, to, want)
		return
	}
	s.forward(w, r, to)
}

func (s *server) location(w http.ResponseWriter, location string, err error) (*url.URL, bool) {
	if err != nil {
		code := http.StatusInternalServerError
		if cri.IsNotFound(err) {
			code = http.StatusNotFound
		}
		http.Error(w, cri.Message(err), code)
		return nil, false
	}
	to, err := url.Parse(location)
	if err != nil {
		http.Error(w, fmt.Sprintf("the runtime gave an address that doesn't parse: %v", err), http.StatusInternalServerError)
		return nil, false
	}
	if to.Scheme == "" { // as cri-dockerd's
		to.Scheme = "http"
	}
	return to, true
}

// forward passes an upgrading request on as it is.
func (s *server) forward(w http.ResponseWriter, r *http.Request, to *url.URL) {
	proxy.NewUpgradeAwareHandler(to, nil, false, true, s).ServeHTTP(w, r)
}

// Error answers for the proxy.
func (s *server) Error(w http.ResponseWriter, r *http.Request, err error) {
	s.Logger.Debug("stream not passed on", "path", r.URL.Path, "error", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func (s *server) servePortForward(w http.ResponseWriter, r *http.Request) {
	tunneled := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	var ports []int32
	if wsstream.IsWebSocketRequest(r) && !tunneled {
		var err error
		if ports, err = portsOf(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	pod, ok := s.Backend.FindPod(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	sandbox := ""
	if pod.Observed != nil && pod.Observed.Sandbox() != nil && pod.Observed.Sandbox().Ready {
		sandbox = pod.Observed.Sandbox().ID
	}
	if sandbox == "" {
		http.Error(w, fmt.Sprintf("pod not found (%q)", pod.Name), http.StatusNotFound)
		return
	}
	resp, err := s.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sandbox, Port: ports})
	to, ok := s.location(w, resp.GetUrl(), err)
	if !ok {
		return
	}
	if tunneled {
		s.tunnel(w, r, to)
		return
	}
	s.forward(w, r, to)
}

func portsOf(q url.Values) ([]int32, error) {
	var out []int32
	for _, text := range q[corev1.PortHeader] {
		for _, part := range strings.Split(text, ",") {
			n, err := strconv.ParseUint(part, 10, 16)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("unable to parse %q as a port", part)
			}
			out = append(out, int32(n))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("query parameter \"port\" is required")
	}
	return out, nil
}

// exec runs a command to its end.
func (s *server) exec(ctx context.Context, containerID string, cmd []string) ([]byte, error) {
	resp, err := s.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: containerID, Cmd: cmd})
	if err != nil {
		return nil, errors.New(cri.Message(err))
	}
	out := append(resp.Stdout, resp.Stderr...)
	if resp.ExitCode != 0 {
		return out, fmt.Errorf("command '%s' exited with %d: %s", strings.Join(cmd, " "), resp.ExitCode, out)
	}
	return out, nil
}
