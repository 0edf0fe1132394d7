package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// upgrades tells whether a request asks for another protocol (SPDY or WebSocket) on its connection.
func upgrades(r *http.Request) bool {
	for _, v := range r.Header.Values("Connection") {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), "upgrade") {
				return true
			}
		}
	}
	return false
}

// forwardToKubelet passes a request on to a node's kubelet, with the location's path and query. A plain one is for a log, and may be insecure:
// its kubelet's certificate may be anybody's.
func (s *Server) forwardToKubelet(w *response, r *http.Request, pod *corev1.Pod, location *url.URL, plain, insecure bool) error {
	node := pod.Spec.NodeName
	base, transport, err := s.cfg.Kubelets.Endpoint(r.Context(), node, insecure)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("reach the kubelet of node %q: %w", node, err))
	}
	to, err := url.Parse(base)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("reach the kubelet of node %q: %w", node, err))
	}
	to.Path, to.RawQuery = location.Path, location.RawQuery
	if plain {
		s.metrics.logs.asked(insecure)
		return s.relay(w, r, pod.Name, to, transport)
	}
	if !upgrades(r) {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	s.metrics.logs.streams(r, w.attributes.Subresource)
	dial := func(ctx context.Context) (net.Conn, error) { return s.cfg.Kubelets.Dial(ctx, node) }
	return s.tunnel(w, r, to, dial)
}

// relay gets a log from a kubelet and streams it, each piece as it comes.
func (s *Server) relay(w *response, r *http.Request, name string, to *url.URL, transport http.RoundTripper) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(s.stop, cancel)
	defer stop()
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	answer, err := transport.RoundTrip(out)
	if err != nil {
		s.metrics.logs.failed(err)
		return apierrors.NewInternalError(fmt.Errorf("%s %q: %w", http.MethodGet, to, err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return backendError(answer, name)
	}
	if wantsWebSocket(r) {
		return relaySocket(w, r, answer.Body, cancel)
	}
	contentType := answer.Header.Get("Content-Type")
	if contentType == "" {
		contentType = "text/plain"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(answer.StatusCode)
	w.Flush()
	copyFlushing(w, answer.Body)
	return errStreamed
}

// backendError turns a kubelet's refusal into a Status.
func backendError(answer *http.Response, name string) error {
	const limit = 50 << 10
	raw, err := io.ReadAll(io.LimitReader(answer.Body, limit))
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	text := string(raw)
	switch answer.StatusCode {
	case http.StatusInternalServerError:
		return apierrors.NewInternalError(errors.New(text))
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(text)
	}
	return apierrors.NewGenericServerResponse(answer.StatusCode, "", podLogs, name, text, 0, false)
}

var podLogs = schema.GroupResource{Resource: "pods/log"}

// copyFlushing copies until the source ends, sending each piece at once.
func copyFlushing(w *response, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			w.Flush()
		}
		if err != nil {
			return
		}
	}
}

// tunnel hands an upgrading request to a backend as it is and then connects the two ends.
func (s *Server) tunnel(w *response, r *http.Request, to *url.URL, dial func(context.Context) (net.Conn, error)) error {
	backend, err := dial(r.Context())
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
	}
	defer backend.Close()
	out := r.Clone(r.Context())
	out.URL, out.Host, out.RequestURI = &url.URL{Path: to.Path, RawQuery: to.RawQuery}, to.Host, ""
	if err := out.Write(backend); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("error sending request: %w", err))
	}
	fromBackend := bufio.NewReader(backend)
	answer, err := http.ReadResponse(fromBackend, out)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("unable to upgrade connection: %w", err))
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		defer answer.Body.Close()
		return passRefusal(w, answer)
	}
	client, buffered, err := w.Hijack()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("take over the connection: %w", err))
	}
	defer client.Close()
	if err := answer.Write(client); err != nil {
		return errStreamed
	}
	s.join(client, buffered.Reader, backend, fromBackend)
	return errStreamed
}

// passRefusal gives the client the backend's answer to an upgrade that it did not grant.
func passRefusal(w *response, answer *http.Response) error {
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		return errStreamed
	}
	return errStreamed
}

// readPatience is how long a client may take to read what is left for it when its backend is done.
const readPatience = time.Minute

// join copies both ways until both ends are done, or the server stops.
func (s *Server) join(client net.Conn, fromClient io.Reader, backend net.Conn, fromBackend io.Reader) {
	closeBoth := func() { _ = errors.Join(client.Close(), backend.Close()) }
	stop := context.AfterFunc(s.stop, closeBoth)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(backend, fromClient)
		halfClose(backend)
		_, _ = io.Copy(io.Discard, fromClient)
	}()
	_, _ = io.Copy(client, fromBackend)
	// Nothing more can come from the backend. The client sees that and closes: if this side did so first, the next thing that the client says, a ping
	// for example, would have the kernel discard what it hasn't read yet.
	if halfClose(client) {
		_ = client.SetReadDeadline(time.Now().Add(readPatience)) // without it the client has all the time it takes
		<-done
	}
	closeBoth()
	<-done
}

// halfClose tells the other side that nothing more will come, if the connection can.
func halfClose(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}
