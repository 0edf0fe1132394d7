package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// healthServer answers on the Services' health check node ports, by which a load balancer outside learns
// whether this node has endpoints of a Service whose external traffic policy is Local.
type healthServer struct {
	log *slog.Logger

	mu        sync.Mutex
	listeners map[uint16]*healthListener
	serving   sync.WaitGroup
}

type healthListener struct {
	server *http.Server

	mu    sync.Mutex
	check HealthCheck
}

func newHealthServer(log *slog.Logger) *healthServer {
	return &healthServer{log: log, listeners: make(map[uint16]*healthListener)}
}

// set answers for exactly these checks from now on.
func (h *healthServer) set(ctx context.Context, checks []HealthCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted := make(map[uint16]bool, len(checks))
	for _, c := range checks {
		wanted[c.Port] = true
		if l := h.listeners[c.Port]; l != nil {
			l.set(c)
			continue
		}
		if err := h.listen(ctx, c); err != nil {
			h.log.Error("Could not open a health check node port; trying again with the next change", "service", c.Service, "port", c.Port, "error", err)
		}
	}
	for port, l := range h.listeners {
		if !wanted[port] {
			_ = l.server.Close()
			delete(h.listeners, port)
		}
	}
}

func (h *healthServer) listen(ctx context.Context, c HealthCheck) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(int(c.Port)))
	if err != nil {
		return fmt.Errorf("listen on the health check node port of %s: %w", c.Service, err)
	}
	l := &healthListener{check: c}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	h.listeners[c.Port] = l
	h.serving.Go(func() {
		if err := l.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			h.log.Error("Health check node port ended", "service", c.Service, "port", c.Port, "error", err)
		}
	})
	return nil
}

// close ends all answers and waits for it.
func (h *healthServer) close() {
	h.mu.Lock()
	for port, l := range h.listeners {
		_ = l.server.Close()
		delete(h.listeners, port)
	}
	h.mu.Unlock()
	h.serving.Wait()
}

func (l *healthListener) set(c HealthCheck) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.check = c
}

// ServeHTTP answers in the form that upstream's proxy has: 200 with endpoints on the node, else 503.
func (l *healthListener) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	c := l.check
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(c.LocalEndpoints))
	if c.LocalEndpoints == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, "{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": true\n}\n",
		c.Service.Namespace, c.Service.Name, c.LocalEndpoints)
}
