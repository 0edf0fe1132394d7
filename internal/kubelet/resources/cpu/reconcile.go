package cpu

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"
)

// Running is a container that runs.
type Running struct {
	UID      types.UID
	Name, ID string
}

// Follow keeps running containers on the CPUs that they may run on, until ctx ends: after every change, and from time to time in any case.
func (m *Manager) Follow(ctx context.Context, period time.Duration, running func() []Running, update func(ctx context.Context, id string, cpus string) error) {
	if m.static == nil {
		return
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.changed:
		}
		m.reconcile(ctx, running(), update)
	}
}

func (m *Manager) reconcile(ctx context.Context, running []Running, update func(ctx context.Context, id string, cpus string) error) {
	told := map[string]cpuset.CPUSet{}
	for _, c := range running {
		want, have := m.For(c.UID, c.Name), m.told(c.ID)
		if want.IsEmpty() {
			continue
		}
		if want.Equals(have) {
			told[c.ID] = have
			continue
		}
		if err := update(ctx, c.ID, want.String()); err != nil {
			if ctx.Err() == nil {
				m.cfg.Logger.Warn("container not moved to its CPUs", "container", c.ID, "cpus", want.String(), "error", err)
			}
			continue
		}
		told[c.ID] = want
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set = told
}

func (m *Manager) told(id string) cpuset.CPUSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set[id]
}
