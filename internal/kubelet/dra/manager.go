package dra

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// Config is what a Manager is made from. All fields are required.
type Config struct {
	// Dir is the kubelet's own directory.
	Dir      string
	NodeName string
	Client   client.Client
	// Registered waits for the Node object.
	Registered func(ctx context.Context) error
	// Active tells which pods may still use their claims; false when not all pods are known yet.
	Active func() (map[types.UID]bool, bool)
	// HealthChanged is told of pods whose devices feel better or worse.
	HealthChanged func(types.UID)
	Metrics       prometheus.Registerer
	Logger        *slog.Logger
}

// Manager knows the claims that are prepared on a node and the drivers that did so. All methods may be called concurrently.
type Manager struct {
	cfg     Config
	claims  *claims
	health  *health
	metrics *metrics
	busy    locks

	ctx context.Context // of Start
	wg  sync.WaitGroup

	mu      sync.Mutex
	drivers map[string]*driver // by name
}

// How often claims are looked for that no pod uses any more.
const sweepEvery = time.Minute

// New returns a manager that knows what an earlier one has prepared.
func New(cfg Config) (*Manager, error) {
	known, err := openClaims(cfg.Dir)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, claims: known, busy: locks{held: map[string]*held{}}, drivers: map[string]*driver{}}
	m.health = openHealth(cfg.Dir, cfg.Logger)
	if m.metrics, err = newMetrics(cfg.Metrics, known); err != nil {
		return nil, err
	}
	return m, nil
}

// Start begins to look after drivers and claims, until ctx ends; Wait then waits for the rest.
func (m *Manager) Start(ctx context.Context) {
	m.ctx = ctx
	m.wg.Go(func() { m.wipe(ctx, "") })
	m.wg.Go(func() { m.sweepRegularly(ctx) })
}

// Wait returns when all that Start and drivers have begun is over.
func (m *Manager) Wait() { m.wg.Wait() }

// sweepRegularly unprepares what the pods have left that went away unseen, and looks whether health reports are still fresh.
func (m *Manager) sweepRegularly(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.sweep(ctx)
			m.tellHealth(m.health.outdated())
		}
	}
}

func (m *Manager) sweep(ctx context.Context) {
	active, known := m.cfg.Active()
	if !known {
		return
	}
	left := map[types.UID]bool{}
	m.claims.read(func(all map[string]*Claim) {
		for _, c := range all {
			for uid := range c.PodUIDs {
				left[types.UID(uid)] = left[types.UID(uid)] || !active[types.UID(uid)]
			}
		}
	})
	for uid, gone := range left {
		if !gone {
			continue
		}
		if err := m.Unprepare(ctx, uid); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Info("Unpreparing pod resources in reconcile loop failed, will retry", "podUID", uid, "err", err)
		}
	}
}
