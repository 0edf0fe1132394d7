package dra

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	healthpb "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"

	"clipper.dev/clipper/internal/durable"
)

const (
	healthFile = "dra_health_state"
	// freshFor is how long a report counts that doesn't say so itself.
	freshFor = 30 * time.Second
	// healthRetry is how soon a driver is asked again for reports.
	healthRetry = 5 * time.Second
)

// deviceHealth is how a device feels. Its fields are as they are stored.
type deviceHealth struct {
	PoolName           string
	DeviceName         string
	Health             corev1.ResourceHealthStatus
	LastUpdated        time.Time
	HealthCheckTimeout time.Duration
	Message            string
}

func (d *deviceHealth) fresh(now time.Time) bool {
	limit := d.HealthCheckTimeout
	if limit == 0 {
		limit = freshFor
	}
	return now.Sub(d.LastUpdated) <= limit
}

// driverHealth is what a driver says of its devices, by pool/device.
type driverHealth struct {
	Devices map[string]deviceHealth
}

// health is how devices feel, in memory and on disk.
type health struct {
	path   string
	logger *slog.Logger

	mu      sync.Mutex
	drivers map[string]driverHealth
}

// deviceID names a device.
type deviceID struct{ driver, pool, device string }

func openHealth(dir string, logger *slog.Logger) *health {
	h := &health{path: filepath.Join(dir, healthFile), logger: logger, drivers: map[string]driverHealth{}}
	raw, err := os.ReadFile(h.path)
	if err == nil {
		err = json.Unmarshal(raw, &h.drivers)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("the devices' health is learnt anew", "error", err)
	}
	if h.drivers == nil {
		h.drivers = map[string]driverHealth{}
	}
	return h
}

// get returns how a device feels: nobody knows if no fresh report tells.
func (h *health) get(driver, pool, device string) deviceHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, ok := h.drivers[driver].Devices[key(pool, device)]; ok && d.fresh(time.Now()) {
		return d
	}
	return deviceHealth{PoolName: pool, DeviceName: device, Health: corev1.ResourceHealthStatusUnknown}
}

// update takes in a report and returns the devices of which it says something new.
func (h *health) update(driver string, report []deviceHealth) []deviceID {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.drivers[driver]
	if known.Devices == nil {
		known.Devices = map[string]deviceHealth{}
		h.drivers[driver] = known
	}
	var changed []deviceID
	now := time.Now()
	for _, d := range report {
		d.LastUpdated = now
		k := key(d.PoolName, d.DeviceName)
		before, ok := known.Devices[k]
		if !ok || before.Health != d.Health || before.Message != d.Message || before.HealthCheckTimeout != d.HealthCheckTimeout || !before.fresh(now) {
			changed = append(changed, deviceID{driver, d.PoolName, d.DeviceName})
		}
		known.Devices[k] = d
	}
	if len(changed) > 0 {
		h.store()
	}
	return changed
}

// outdated makes unknown what was reported too long ago, and returns it.
func (h *health) outdated() []deviceID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changed []deviceID
	now := time.Now()
	for name, driver := range h.drivers {
		for k, d := range driver.Devices {
			if d.Health != corev1.ResourceHealthStatusUnknown && !d.fresh(now) {
				d.Health, d.Message = corev1.ResourceHealthStatusUnknown, ""
				driver.Devices[k] = d
				changed = append(changed, deviceID{name, d.PoolName, d.DeviceName})
			}
		}
	}
	if len(changed) > 0 {
		h.store()
	}
	return changed
}

// clear forgets what a driver said, and returns of which devices.
func (h *health) clear(driver string) []deviceID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changed []deviceID
	for _, d := range h.drivers[driver].Devices {
		changed = append(changed, deviceID{driver, d.PoolName, d.DeviceName})
	}
	if len(changed) > 0 {
		delete(h.drivers, driver)
		h.store()
	}
	return changed
}

// store writes the file. A report that isn't on disk is made again soon, so that a failure is no more than told.
func (h *health) store() {
	raw, err := json.Marshal(h.drivers)
	if err == nil {
		err = durable.WriteFile(h.path, raw, 0o600)
	}
	if err != nil {
		h.logger.Warn("the devices' health is not stored", "error", err)
	}
}

// watchHealth follows a driver's reports, if it makes any.
func (m *Manager) watchHealth(ctx context.Context, p *plugin) {
	api := healthpb.NewDRAResourceHealthClient(p.conn)
	for {
		m.followHealth(ctx, p.driver, api)
		if !sleep(ctx, healthRetry) {
			return
		}
	}
}

func (m *Manager) followHealth(ctx context.Context, driver string, api healthpb.DRAResourceHealthClient) {
	stream, err := api.NodeWatchResources(ctx, &healthpb.NodeWatchResourcesRequest{})
	if err != nil {
		return
	}
	defer func() { m.tellHealth(m.health.clear(driver)) }()
	for {
		report, err := stream.Recv()
		if err != nil {
			return // It doesn't report, or has gone.
		}
		devices := make([]deviceHealth, 0, len(report.GetDevices()))
		for _, d := range report.GetDevices() {
			devices = append(devices, healthFrom(d))
		}
		m.tellHealth(m.health.update(driver, devices))
	}
}

func healthFrom(d *healthpb.DeviceHealth) deviceHealth {
	out := deviceHealth{
		PoolName: d.GetDevice().GetPoolName(), DeviceName: d.GetDevice().GetDeviceName(), Health: corev1.ResourceHealthStatusUnknown,
		HealthCheckTimeout: freshFor, Message: d.GetMessage(),
	}
	switch d.GetHealth() {
	case healthpb.HealthStatus_HEALTHY:
		out.Health = corev1.ResourceHealthStatusHealthy
	case healthpb.HealthStatus_UNHEALTHY:
		out.Health = corev1.ResourceHealthStatusUnhealthy
	}
	if s := d.GetHealthCheckTimeoutSeconds(); s > 0 {
		out.HealthCheckTimeout = time.Duration(s) * time.Second
	}
	if most := corev1.ResourceHealthMessageMaxLength; len(out.Message) > most {
		out.Message = out.Message[:most-3] + "..."
	}
	return out
}

// tellHealth tells the pods that use devices.
func (m *Manager) tellHealth(changed []deviceID) {
	if len(changed) == 0 {
		return
	}
	news := map[deviceID]bool{}
	for _, id := range changed {
		news[id] = true
	}
	pods := map[types.UID]bool{}
	m.claims.read(func(all map[string]*Claim) {
		for _, c := range all {
			for driver, s := range c.DriverState {
				for i := range s.Devices {
					if !news[deviceID{driver, s.Devices[i].PoolName, s.Devices[i].DeviceName}] {
						continue
					}
					for uid := range c.PodUIDs {
						pods[types.UID(uid)] = true
					}
				}
			}
		}
	})
	for uid := range pods {
		m.cfg.HealthChanged(uid)
	}
}
