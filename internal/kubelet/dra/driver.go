package dra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"
	drapbv1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"clipper.dev/clipper/internal/client"
)

// wipeDelay is for how long a driver may be out of reach before what it has published goes.
const wipeDelay = 30 * time.Second

// How often deleting slices is tried again.
const (
	firstWipeRetry   = time.Second
	longestWipeRetry = 5 * time.Minute
)

// spoken are the services that are understood here.
var spoken = []string{drapb.DRAPluginService, drapbv1beta1.DRAPluginService}

// driver is one by its name. While it is updated it can have two plugins.
type driver struct {
	plugins []*plugin // the newest last
	wiping  context.CancelFunc
}

func (d *driver) connected() bool {
	return slices.ContainsFunc(d.plugins, func(p *plugin) bool { return p.connected })
}

// Validate implements plugins.Handler.
func (m *Manager) Validate(name, endpoint string, services []string) error {
	_, err := choose(name, endpoint, services)
	return err
}

func choose(name, endpoint string, services []string) (string, error) {
	for _, s := range services {
		if slices.Contains(spoken, s) {
			return s, nil
		}
	}
	err := fmt.Errorf("none of services supported by the plugin (%q) are supported by the kubelet (%q)", services, spoken)
	if len(services) == 0 {
		err = errors.New("empty list of supported gRPC services (aka supported versions)")
	}
	return "", fmt.Errorf("invalid supported gRPC versions of DRA driver plugin %s at endpoint %s: %w", name, endpoint, err)
}

// Register implements plugins.Handler.
func (m *Manager) Register(_ context.Context, name, endpoint string, services []string) error {
	service, err := choose(name, endpoint, services)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.drivers[name]
	if d == nil {
		d = &driver{}
		m.drivers[name] = d
	}
	if slices.ContainsFunc(d.plugins, func(p *plugin) bool { return p.endpoint == endpoint }) {
		return nil
	}
	p, err := m.connect(name, endpoint, service)
	if err != nil {
		return fmt.Errorf("create gRPC connection to DRA driver %s plugin at endpoint %s: %w", name, endpoint, err)
	}
	d.plugins = append(d.plugins, p)
	m.judge(name, d)
	return nil
}

// Deregister implements plugins.Handler.
func (m *Manager) Deregister(_ context.Context, name, endpoint string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.drivers[name]
	if d == nil {
		return
	}
	d.plugins = slices.DeleteFunc(d.plugins, func(p *plugin) bool {
		if p.endpoint == endpoint {
			p.close()
		}
		return p.endpoint == endpoint
	})
	m.judge(name, d)
}

// plugin returns the newest plugin of a driver that is connected, else the newest.
func (m *Manager) plugin(name string) (*plugin, error) {
	if name == "" {
		return nil, errors.New("DRA driver name is empty")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.drivers[name]
	if d == nil || len(d.plugins) == 0 {
		return nil, fmt.Errorf("DRA driver %s is not registered", name)
	}
	for _, p := range slices.Backward(d.plugins) {
		if p.connected {
			return p, nil
		}
	}
	return d.plugins[len(d.plugins)-1], nil
}

// judge has the slices of a driver deleted after a while if it can't be reached, unless it can be again by then. Called with mu held.
func (m *Manager) judge(name string, d *driver) {
	if d.connected() {
		if d.wiping != nil {
			d.wiping()
			d.wiping = nil
		}
		return
	}
	if d.wiping != nil || m.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(m.ctx)
	d.wiping = cancel
	m.wg.Go(func() {
		defer cancel()
		if sleep(ctx, wipeDelay) {
			m.wipe(ctx, name)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if ctx.Err() == nil {
			d.wiping = nil
			if len(d.plugins) == 0 && m.drivers[name] == d {
				delete(m.drivers, name)
			}
		}
	})
}

// sleep waits; false if the context ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wipe deletes the slices of this node that a driver has published, or all of them if name is "".
func (m *Manager) wipe(ctx context.Context, name string) {
	if m.cfg.Registered(ctx) != nil {
		return
	}
	selector := fields.Set{resourcev1.ResourceSliceSelectorNodeName: m.cfg.NodeName}
	if name != "" {
		selector[resourcev1.ResourceSliceSelectorDriver] = name
	}
	for wait := firstWipeRetry; ; wait = min(2*wait, longestWipeRetry) {
		err := m.cfg.Client.DeleteCollection(ctx, client.ResourceSlices.GVR, "", metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: selector.String()})
		if err == nil || apierrors.IsNotFound(err) || ctx.Err() != nil {
			return
		}
		m.cfg.Logger.Warn("the slices of a DRA driver that has gone are not deleted", "driver", name, "error", err, "retry", wait)
		if !sleep(ctx, wait) {
			return
		}
	}
}
