package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// socket is where plugins register.
const socket = "kubelet.sock"

// Start lets plugins register until ctx ends; Wait waits for the end. Sockets of plugins that a former kubelet knew are removed, which tells them to
// register anew.
func (m *Manager) Start(ctx context.Context) error {
	m.ctx = ctx
	if err := m.clearSockets(); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(m.cfg.Dir, socket))
	if err != nil {
		return fmt.Errorf("let device plugins register: %w", err)
	}
	s := grpc.NewServer()
	pluginapi.RegisterRegistrationServer(s, &registration{m: m})
	m.wg.Go(func() {
		if err := s.Serve(l); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Error("device plugins can't register any more", "error", err)
		}
	})
	m.wg.Go(func() {
		<-ctx.Done()
		s.Stop()
	})
	return nil
}

// Wait waits until all that Start began has ended.
func (m *Manager) Wait() { m.wg.Wait() }

func (m *Manager) clearSockets() error {
	if err := os.MkdirAll(m.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("make the folder of device plugins: %w", err)
	}
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list the folder of device plugins: %w", err)
	}
	for _, e := range entries {
		if e.Type() != os.ModeSocket {
			continue
		}
		if err := os.Remove(filepath.Join(m.cfg.Dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a socket of a device plugin: %w", err)
		}
	}
	return nil
}

// registration serves the socket.
type registration struct {
	pluginapi.UnimplementedRegistrationServer
	m *Manager
}

// Register implements pluginapi.RegistrationServer.
func (r *registration) Register(ctx context.Context, req *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	r.m.cfg.Metrics.DeviceRegistrations.WithLabelValues(req.ResourceName).Inc()
	if !supported(req.Version) {
		return nil, fmt.Errorf("requested API version %q is not supported by kubelet. Supported version is %q", req.Version, pluginapi.SupportedVersions)
	}
	if !extended(req.ResourceName) {
		return nil, invalidName(req.ResourceName)
	}
	if err := r.m.Register(ctx, req.ResourceName, filepath.Join(r.m.cfg.Dir, req.Endpoint), nil); err != nil {
		return nil, err
	}
	return &pluginapi.Empty{}, nil
}

func invalidName(name string) error { return fmt.Errorf("the ResourceName %q is invalid", name) }

// extended tells whether a name is that of a resource which isn't Kubernetes' own.
func extended(name string) bool {
	if !strings.Contains(name, "/") || strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) || strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// Validate implements plugins.Handler.
func (m *Manager) Validate(name, _ string, versions []string) error {
	if !supported(versions...) {
		return fmt.Errorf("manager version, %s, is not among plugin supported versions %v", pluginapi.Version, versions)
	}
	if !extended(name) {
		return fmt.Errorf("invalid name of device plugin socket: %w", invalidName(name))
	}
	return nil
}

// Register implements plugins.Handler: it connects to a plugin, which replaces a former one of the same resource, and follows its devices.
func (m *Manager) Register(ctx context.Context, name, endpoint string, _ []string) error {
	p, err := connect(ctx, name, endpoint)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.ctx.Err() != nil {
		m.mu.Unlock()
		return closing(p.conn, m.ctx.Err())
	}
	k := m.kinds[name]
	if k == nil {
		k = &kind{}
		m.kinds[name] = k
	}
	delete(m.gone, name)
	former := k.plugin
	k.plugin, k.listed, k.preStart = p, false, p.options.GetPreStartRequired()
	m.wg.Go(func() { m.follow(p) })
	m.mu.Unlock()
	m.cfg.Logger.Info("device plugin registered", "resource", name, "socket", endpoint)
	if former != nil {
		return m.closeConnection(former)
	}
	return nil
}

// Deregister implements plugins.Handler.
func (m *Manager) Deregister(_ context.Context, name, _ string) {
	m.mu.Lock()
	var p *plugin
	if k := m.kinds[name]; k != nil {
		p = k.plugin
	}
	m.mu.Unlock()
	if p != nil {
		m.disconnect(p)
	}
}

func (m *Manager) closeConnection(p *plugin) error {
	if err := p.conn.Close(); err != nil {
		return fmt.Errorf("close the connection to the former device plugin: %w", err)
	}
	return nil
}

// follow takes in a plugin's devices as long as it lives.
func (m *Manager) follow(p *plugin) {
	err := p.follow(m.ctx, func(devices []*pluginapi.Device) { m.list(p, devices) })
	if m.ctx.Err() == nil {
		m.cfg.Logger.Warn("device plugin gone", "resource", p.resource, "error", err)
	}
	m.disconnect(p)
}

// disconnect notes that a plugin is gone: its devices can't be given until it's back.
func (m *Manager) disconnect(p *plugin) {
	m.mu.Lock()
	k := m.kinds[p.resource]
	current := k != nil && k.plugin == p
	if current {
		k.plugin, k.listed, k.lost = nil, false, time.Now()
	}
	m.mu.Unlock()
	if !current {
		return
	}
	if err := p.conn.Close(); err != nil {
		m.cfg.Logger.Debug("connection to a device plugin not closed", "resource", p.resource, "error", err)
	}
	if m.ctx.Err() == nil {
		m.cfg.Changed()
	}
}
