package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Channels of a WebSocket of the fifth protocol.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
)

const protocolV5 = "v5.channel.k8s.io"

// translate serves the fifth WebSocket protocol, which can tell that the client's input has ended, to a runtime that speaks SPDY.
func (s *server) translate(w http.ResponseWriter, r *http.Request, to *url.URL, want streams) {
	kind := func(on bool, kind wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return kind
		}
		return wsstream.IgnoreChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{protocolV5: {Binary: true, Channels: []wsstream.ChannelType{
		channelStdin: kind(want.stdin, wsstream.ReadChannel), channelStdout: kind(want.stdout, wsstream.WriteChannel),
		channelStderr: kind(want.stderr, wsstream.WriteChannel), channelError: wsstream.WriteChannel, channelResize: wsstream.ReadChannel,
	}}})
	_, channels, err := conn.Open(w, r)
	if err != nil {
		s.Logger.Debug("WebSocket not opened", "path", r.URL.Path, "error", err)
		return
	}
	defer conn.Close()
	// An empty message tells the client that the connection stands.
	lowest := channelError
	switch {
	case want.stdout:
		lowest = channelStdout
	case want.stderr:
		lowest = channelStderr
	}
	if _, err := channels[lowest].Write([]byte{}); err != nil {
		return
	}
	opts := remotecommand.StreamOptions{Tty: want.tty}
	if want.stdin {
		opts.Stdin = channels[channelStdin]
	}
	if want.stdout {
		opts.Stdout = channels[channelStdout]
	}
	if want.stderr {
		opts.Stderr = channels[channelStderr]
	}
	if want.tty {
		opts.TerminalSizeQueue = sizes{json.NewDecoder(channels[channelResize])}
	}
	err = s.stream(r, to, opts)
	status, merr := json.Marshal(statusOf(err))
	if merr != nil {
		s.Logger.Error("status of a stream not encoded", "error", merr)
		return
	}
	if _, err := channels[channelError].Write(status); err != nil {
		s.Logger.Debug("status of a stream not sent", "error", err)
	}
}

// stream speaks SPDY with the runtime. It sends no pings: one that reaches a connection that the runtime has closed would have the kernel discard what
// isn't read of it yet.
func (s *server) stream(r *http.Request, to *url.URL, opts remotecommand.StreamOptions) error {
	upgrader, err := spdy.NewRoundTripper(nil)
	if err != nil {
		return fmt.Errorf("connect to the runtime: %w", err)
	}
	executor, err := remotecommand.NewSPDYExecutorForTransports(upgrader, upgrader, http.MethodPost, to)
	if err != nil {
		return fmt.Errorf("connect to the runtime: %w", err)
	}
	return executor.StreamWithContext(r.Context(), opts)
}

// sizes reads terminal sizes from a stream of JSON.
type sizes struct {
	*json.Decoder
}

// Next implements remotecommand.TerminalSizeQueue.
func (q sizes) Next() *remotecommand.TerminalSize {
	var size remotecommand.TerminalSize
	if q.Decode(&size) != nil {
		return nil
	}
	return &size
}

// statusOf tells how a command ended, in the form that clients expect.
func statusOf(err error) *metav1.Status {
	if err == nil || errors.Is(err, io.EOF) {
		return &metav1.Status{Status: metav1.StatusSuccess}
	}
	var exit utilexec.CodeExitError
	if errors.As(err, &exit) {
		return &metav1.Status{
			Status: metav1.StatusFailure, Reason: "NonZeroExitCode",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: fmt.Sprint(exit.Code)}}},
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
		}
	}
	return &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: err.Error(), Code: http.StatusInternalServerError}
}
