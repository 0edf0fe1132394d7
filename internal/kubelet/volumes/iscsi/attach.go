package iscsi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	devicePatience    = 30 * time.Second // for a unit's device after its session was made
	multipathPatience = 10 * time.Second // for the device mapper to join the paths
	lookAgain         = 100 * time.Millisecond
)

// attach makes a unit's device appear by as many portals as can be reached, and returns its path. It is quick when all is there.
// credentials are asked for when a session has to be made.
func (p *Plugin) attach(ctx context.Context, d *disk, a *access, credentials func() (map[string]string, error)) (string, error) {
	var devices []string
	var errs []error
	for _, portal := range d.Portals {
		device, err := p.reach(ctx, d, portal, a, credentials)
		if err != nil {
			errs = append(errs, fmt.Errorf("portal %s: %w", portal, err))
			continue
		}
		devices = append(devices, device)
	}
	if len(devices) == 0 {
		return "", fmt.Errorf("failed to get any path for iscsi disk, last err seen:\n%w", errors.Join(errs...))
	}
	if len(errs) > 0 {
		p.cfg.Logger.Warn("an iSCSI disk is reached by some of its portals only", "target", d.Target, "error", errors.Join(errs...))
	}
	return p.join(ctx, devices)
}

// reach makes a unit's device appear by one portal.
func (p *Plugin) reach(ctx context.Context, d *disk, portal string, a *access, credentials func() (map[string]string, error)) (string, error) {
	n, err := p.sys.session(d, portal)
	if err != nil {
		return "", err
	}
	if n == nil {
		chap, err := credentials()
		if err != nil {
			return "", err
		}
		if d.Template != "" {
			if err := p.makeInterface(ctx, d); err != nil {
				return "", err
			}
		}
		if err := p.login(ctx, d, portal, a, chap); err != nil {
			return "", err
		}
		if n, err = p.sys.session(d, portal); err != nil {
			return "", err
		}
		if n == nil {
			return "", errors.New("logged in, but the kernel tells no session")
		}
	}
	if device := n.unit(d.Unit); device != "" {
		return device, nil
	}
	if err := p.sys.scan(n, d.Unit); err != nil {
		return "", err
	}
	var device string
	err = wait.PollUntilContextTimeout(ctx, lookAgain, devicePatience, true, func(context.Context) (bool, error) {
		device = n.unit(d.Unit)
		return device != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("unit %d of %s has not appeared: %w", d.Unit, d.Target, err)
	}
	return device, nil
}

// join returns the disk that some devices are paths to. One that was not asked to have several paths is not waited for.
func (p *Plugin) join(ctx context.Context, devices []string) (string, error) {
	var joined string
	look := func(context.Context) (bool, error) {
		for _, d := range devices {
			if joined = p.sys.multipath(d); joined != "" {
				return true, nil
			}
		}
		return len(devices) == 1, nil
	}
	if err := wait.PollUntilContextTimeout(ctx, lookAgain, multipathPatience, true, look); err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	if joined == "" {
		joined = devices[0] // no multipathd runs
	}
	return filepath.Join("/dev", joined), nil
}

// detach gives back a unit that no pod uses any more, and the sessions that have none left.
func (p *Plugin) detach(ctx context.Context, d *disk) error {
	var errs []error
	for _, portal := range d.Portals {
		n, err := p.sys.session(d, portal)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if n == nil {
			continue
		}
		if err := p.forget(ctx, n, d.Unit); err != nil {
			errs = append(errs, err)
			continue
		}
		if n.empty() {
			errs = append(errs, p.logout(ctx, d, portal))
		}
	}
	errs = append(errs, p.removeInterface(ctx, d))
	return errors.Join(errs...)
}

// forget removes a unit's device, and first the disk that it is a path to.
func (p *Plugin) forget(ctx context.Context, n *session, unit int32) error {
	device := n.unit(unit)
	if device == "" {
		return nil
	}
	if joined := p.sys.multipath(device); joined != "" {
		if err := p.flush(ctx, filepath.Join("/dev", joined)); err != nil {
			return err
		}
	}
	return p.sys.remove(device)
}
