package streaming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	criserver "k8s.io/cri-streaming/pkg/streaming"
)

// Server gives out addresses and serves them.
type Server struct {
	criserver.Server
	listener net.Listener
}

// shutdownPatience is how long connections may end by themselves when the server stops.
const shutdownPatience = time.Second

// NewServer listens on a free port of loopback.
func NewServer(runtime criserver.Runtime) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	config := criserver.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String()}
	server, err := criserver.NewServer(config, runtime)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("create streaming server: %w", err)
	}
	return &Server{server, listener}, nil
}

// Serve answers connections until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler: s.Server, ReadHeaderTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer cancel()
		if server.Shutdown(patience) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve streams: %w", err)
	}
	return nil
}
