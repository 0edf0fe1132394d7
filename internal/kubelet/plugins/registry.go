package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	relist       = time.Minute
	firstRetry   = 500 * time.Millisecond
	longestRetry = 2 * time.Minute
	callTimeout  = 10 * time.Second
)

// Handler takes in plugins of one type.
type Handler interface {
	// Validate refuses a plugin that can't be worked with.
	Validate(name, endpoint string, versions []string) error
	// Register makes a plugin usable. It may be called again for one that is.
	Register(ctx context.Context, name, endpoint string, versions []string) error
	// Deregister ends the use of a plugin that has gone.
	Deregister(ctx context.Context, name, endpoint string)
}

// Config is what a Registry is made from.
type Config struct {
	// Dir is the folder in which plugins put their sockets.
	Dir string
	// Handlers are by type of plugin: registerapi.CSIPlugin, ….
	Handlers map[string]Handler
	Logger   *slog.Logger
}

// Registry knows the plugins of a node.
type Registry struct {
	cfg   Config
	known map[string]*plugin // by socket
	found atomic.Pointer[map[string]bool]
}

// plugin is what is known of a socket.
type plugin struct {
	stamp      time.Time // of the socket: another one has another
	info       *registerapi.PluginInfo
	endpoint   string
	accepted   bool // by its handler
	registered bool // and told so
	failures   int
	retryAt    time.Time
}

// New returns a registry.
func New(cfg Config) *Registry { return &Registry{cfg: cfg, known: map[string]*plugin{}} }

// Run follows the folder until ctx ends. changes tells that it should be looked at.
func (r *Registry) Run(ctx context.Context, changes <-chan struct{}) error {
	for {
		timer := time.NewTimer(r.look(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-changes:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look compares the folder with what is known, and returns when to look again.
func (r *Registry) look(ctx context.Context) time.Duration {
	found, err := sockets(r.cfg.Dir)
	if err != nil {
		r.cfg.Logger.Warn("plugins not looked for", "error", err)
		return relist
	}
	for path, p := range r.known {
		if stamp, there := found[path]; !there || !stamp.Equal(p.stamp) {
			r.forget(ctx, path, p)
		}
	}
	defer r.publish()
	next := relist
	for path, stamp := range found {
		p := r.known[path]
		if p == nil {
			p = &plugin{stamp: stamp}
			r.known[path] = p
		}
		if p.registered {
			continue
		}
		if wait := time.Until(p.retryAt); wait > 0 {
			next = min(next, wait)
			continue
		}
		if err := r.register(ctx, path, p); err != nil && ctx.Err() == nil {
			wait := min(firstRetry<<min(p.failures, 10), longestRetry)
			p.failures++
			p.retryAt = time.Now().Add(wait)
			next = min(next, wait)
			r.cfg.Logger.Warn("plugin not registered", "socket", path, "error", err, "retry", wait)
		}
	}
	return next
}

// sockets lists those below a folder with their times. Hidden ones are passed over.
func sockets(dir string) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path != dir && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.Type() != fs.ModeSocket:
			return nil
		}
		if info, err := d.Info(); err == nil {
			out[path] = info.ModTime()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the sockets in %s: %w", dir, err)
	}
	return out, nil
}

func (r *Registry) forget(ctx context.Context, path string, p *plugin) {
	delete(r.known, path)
	if !p.accepted {
		return
	}
	if h := r.cfg.Handlers[p.info.Type]; h != nil {
		h.Deregister(ctx, p.info.Name, p.endpoint)
		r.cfg.Logger.Info("plugin deregistered", "type", p.info.Type, "name", p.info.Name, "socket", path)
	}
}

// register asks a plugin who it is, takes it in and tells it the outcome.
func (r *Registry) register(ctx context.Context, path string, p *plugin) error {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the plugin: %w", err)
	}
	defer conn.Close()
	api := registerapi.NewRegistrationClient(conn)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if p.info, err = api.GetInfo(call, &registerapi.InfoRequest{}); err != nil {
		return fmt.Errorf("ask the plugin who it is: %w", err)
	}
	p.endpoint = p.info.Endpoint
	if p.endpoint == "" {
		p.endpoint = path
	}
	refused := r.accept(ctx, p)
	p.accepted = p.accepted || refused == nil
	status := &registerapi.RegistrationStatus{PluginRegistered: refused == nil}
	if refused != nil {
		status.Error = refused.Error()
	}
	tell, cancelTell := context.WithTimeout(ctx, callTimeout)
	defer cancelTell()
	if _, err := api.NotifyRegistrationStatus(tell, status); err != nil && refused == nil {
		return fmt.Errorf("tell the plugin that it's registered: %w", err)
	}
	if refused != nil {
		return refused
	}
	p.registered, p.failures = true, 0
	r.cfg.Logger.Info("plugin registered", "type", p.info.Type, "name", p.info.Name, "socket", path)
	return nil
}

func (r *Registry) accept(ctx context.Context, p *plugin) error {
	h := r.cfg.Handlers[p.info.Type]
	if h == nil {
		return fmt.Errorf("no handler registered for plugin type: %s at socket %s", p.info.Type, p.endpoint)
	}
	versions := slices.Clone(p.info.SupportedVersions)
	if err := h.Validate(p.info.Name, p.endpoint, versions); err != nil {
		return fmt.Errorf("plugin validation failed with err: %w", err)
	}
	if err := h.Register(ctx, p.info.Name, p.endpoint, versions); err != nil {
		return fmt.Errorf("plugin registration failed with err: %w", err)
	}
	return nil
}
